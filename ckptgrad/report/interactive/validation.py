"""A validation: peaks by each meter, and times relative to `jax.grad`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bokeh.layouts import column
from bokeh.models import Span

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.interactive.bars import bars
from ckptgrad.report.interactive.looks import Drawn
from ckptgrad.report.plots.style import BUDGET_COLOUR
from ckptgrad.report.series.units import unit_for
from ckptgrad.report.series.validation import ValidationSeries, validation_series
from ckptgrad.results.validation import Validation

CAPTION = "Peaks beyond the arguments by each meter, and times relative to jax.grad's{}."
BUDGET = "; the dashed line is the budget"


@registry.interactive.register(Validation)
def interactive(validation: Validation) -> dict[str, Callable[[], Drawn]]:
    """Peaks and times of the rows, if anything was measured."""
    series = validation_series(validation)
    return {"validation": partial(_drawn, series, validation.budget)} if series.peaks else {}


def _drawn(series: ValidationSeries, budget: int | None) -> Drawn:
    highest = max(max(row) for row in series.peaks.values())
    unit = unit_for(highest)
    caption = CAPTION.format("" if budget is None else BUDGET)
    above = bars(
        "Peaks", series.rows,
        {label: [b / unit.bytes for b in row] for label, row in series.peaks.items()},
        {label: [format_bytes(b) for b in row] for label, row in series.peaks.items()},
        series.styles, stacked=False, name="peaks",
    )  # fmt: skip
    above.yaxis.axis_label = f"peak, {unit.name}"
    if budget is not None:
        above.add_layout(
            Span(
                location=budget / unit.bytes, dimension="width", line_color=BUDGET_COLOUR, line_dash="dotdash", line_width=2
            )
        )
    if not any(series.ratios):
        return Drawn(above, caption)
    times = {"time": series.ratios}
    below = bars(
        "Times", series.rows, times, {"time": [f"{r:.2f} of jax.grad's time" for r in series.ratios]},
        {"time": ("#999999", "")}, stacked=True, x_range=above.x_range,
    )  # fmt: skip
    below.yaxis.axis_label = "time, of jax.grad's"
    return Drawn(column(above, below, sizing_mode="stretch_width"), caption)
