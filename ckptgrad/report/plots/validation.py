"""A validation as bars: peaks by each meter on top, times below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.report.plots.style import BUDGET_COLOUR, MIB, legend_beside, new_figure
from ckptgrad.report.series.validation import validation_series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckptgrad.results.validation import Validation


def plot_validation(validation: Validation) -> Figure:
    """Peaks beyond the arguments, and times relative to jax.grad; one group of bars per row.

    Returns:
        The figure.
    """
    series = validation_series(validation)
    figure, (above, below) = new_figure(9.0, 5.4, rows=2)
    width, places = 0.8 / max(1, len(series.peaks)), range(len(series.rows))
    for k, (label, peaks) in enumerate(series.peaks.items()):
        colour, hatch = series.styles[label]
        above.bar([i - 0.4 + (k + 0.5) * width for i in places], [b / MIB for b in peaks], width * 0.95, color=colour,
                  hatch=hatch, edgecolor="#44444488", linewidth=0, label=label)  # fmt: skip
    if validation.budget is not None:
        label = f"budget {format_bytes(validation.budget)}"
        above.axhline(validation.budget / MIB, linestyle="-.", color=BUDGET_COLOUR, linewidth=1.2, label=label)
    above.set_ylabel("peak, MiB")
    legend_beside(above)
    below.bar(places, series.ratios, 0.5, color="#999999")
    below.axhline(1.0, color="#000000", linewidth=0.8, linestyle=":")
    below.set_ylabel("time relative to jax.grad")
    below.set_xticks(places, series.rows)
    above.set_title(f"{validation.function}: peaks and times")
    return figure
