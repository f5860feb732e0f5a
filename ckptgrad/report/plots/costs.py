"""What each stage costs: bytes and seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.report.plots.style import KIND_STYLES, MIB, PASS_STYLES, legend_beside, new_figure
from ckptgrad.report.series.costs import cost_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.results.plan import Plan


def plot_costs(plan: Plan) -> Figure:
    """Two rows of bars, one bar per stage: bytes that are kept or briefly needed, and estimated milliseconds.

    Returns:
        The figure.
    """
    figure, (above, below) = new_figure(9.0, 5.4, rows=2)
    series, xs = cost_series(plan), range(len(plan.costs))
    _stack(above, xs, {kind: ([b / MIB for b in row], *KIND_STYLES[kind]) for kind, row in series.bytes.items()})
    above.set_ylabel("MiB")
    above.set_title("what each stage costs")
    _stack(below, xs, {name: ([1e3 * t for t in row], *PASS_STYLES[name]) for name, row in series.seconds.items()})
    below.set_ylabel("ms (estimated)")
    below.set_xlabel("stage")
    return figure


def _stack(ax: Axes, xs: range, rows: dict[str, tuple[list[float], str, str]]) -> None:
    bottom = [0.0] * len(xs)
    for label, (heights, colour, hatch) in rows.items():
        ax.bar(xs, heights, 0.9, bottom, color=colour, hatch=hatch, edgecolor="#44444488", linewidth=0, label=label)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    legend_beside(ax)
