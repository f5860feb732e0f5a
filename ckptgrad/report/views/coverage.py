"""Which primitives are differentiated, as a table and a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.report import registry
from ckptgrad.report.plots.coverage import plot_coverage
from ckptgrad.report.tables import table_of
from ckptgrad.results.coverage import CoverageTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@registry.parts.register(CoverageTable)
def parts(coverage: CoverageTable) -> list[RenderableType]:
    """How many primitives there are of each status, and the table of primitives."""
    columns = ("primitive", "status", "how")
    table = table_of(*columns, left=columns, wrapped=("how",))
    for row in coverage.rows:
        table.add_row(row.primitive, row.status, row.how)
    public = sum(row.public for row in coverage.rows)
    head = f"{len(coverage.rows)} primitives, {public} of them in jax.extend.core.primitives: "
    return [Text(head + ", ".join(f"{count} {status}" for status, count in coverage.statuses)), table]


@registry.figures.register(CoverageTable)
def figures(coverage: CoverageTable) -> dict[str, Callable[..., Figure]]:
    """How many primitives there are of each status."""
    return {"coverage": partial(plot_coverage, coverage)}
