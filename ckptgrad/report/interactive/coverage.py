"""Which primitives are differentiated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ckptgrad.report import registry
from ckptgrad.report.interactive.bars import bars
from ckptgrad.report.interactive.looks import Drawn
from ckptgrad.report.plots.style import KIND_STYLES
from ckptgrad.results.coverage import CoverageTable


@registry.interactive.register(CoverageTable)
def interactive(coverage: CoverageTable) -> dict[str, Callable[[], Drawn]]:
    """How many primitives there are of each status."""
    return {"coverage": partial(_drawn, coverage)}


def _drawn(coverage: CoverageTable) -> Drawn:
    names, counts = zip(*coverage.statuses, strict=True)
    drawn = bars(
        "Primitives by status", names, {"primitives": counts}, {"primitives": [str(count) for count in counts]},
        {"primitives": KIND_STYLES["boundaries"]}, stacked=True, name="coverage",
    )  # fmt: skip
    drawn.yaxis.axis_label = "primitives"
    return Drawn(drawn, "How many primitives there are of each status; the table lists them all.")
