"""A narrower dtype, where floating-point values that stages hold set the smallest peak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.results.advice.advice import Sentence, adviser

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# What is held of one dtype is worth naming from this share of the smallest peak on.
WORTH = 0.1
# For each dtype the one of half its width.
HALF = {"float64": "float32", "complex128": "complex64", "float32": "bfloat16"}


@adviser(order=4)
def advise(plan: Plan) -> Iterator[Sentence]:
    """How much of the floor is held in a wide dtype, but for gradients of arguments and outputs.

    No narrower dtype than float32 where the target computes products of such in float32 copies, which take more.
    """
    peak = plan.floor.at_peak
    held = [b for b in peak.held if b.kind != "results"]
    inside = sum(size for kind, size in peak.by_kind.items() if kind.startswith("inside"))
    total = sum(b.bytes for b in peak.inside)
    for wide, narrow in HALF.items():
        if narrow == "bfloat16" and plan.program.target.platform.copies_operands:
            continue
        size = sum(b.bytes for b in held if b.dtype == wide)
        if total:
            size += inside * sum(b.bytes for b in peak.inside if b.dtype == wide) // total
        if size >= WORTH * plan.floor.bytes:
            yield (
                f"{format_bytes(size)} of the smallest peak, {format_bytes(plan.floor.bytes)}, are {wide} values that "
                f"stages hold: as {narrow} they take half",
                {"dtype": wide, "narrower": narrow, "bytes": size, "floor_bytes": plan.floor.bytes},
            )
