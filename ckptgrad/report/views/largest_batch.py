"""The largest batch: the sizes that were tried, and the table of the step at the largest that fits."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.tables import table_of
from ckptgrad.results.largest_batch import LargestBatch


@registry.parts.register(LargestBatch)
def parts(found: LargestBatch) -> list[RenderableType]:
    """The size, what was tried, and what the step takes."""
    table = table_of("size", "bytes", "", left=("",))
    for tried in found.tried:
        table.add_row(str(tried.size), format_bytes(tried.bytes), "fits" if tried.fits else "at least: does not fit")
    head = f"largest batch that fits: {found.size}"
    if not found.is_monotone:
        head += "; a larger batch did not always take more, so that one that was not tried may fit too"
    return [Text(head), table, *registry.parts(found.certificate)]
