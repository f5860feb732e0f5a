"""A frontier: time against bytes, with other policies as points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.report.plots.broken import break_axis
from ckptgrad.report.plots.style import MIB, axes_for, legend_beside
from ckptgrad.report.series.frontier import frontier_series
from ckptgrad.report.series.labels import GAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.report.series.frontier import FrontierSeries, Placed
    from ckptgrad.results.frontier import Frontier


def plot_frontier(frontier: Frontier, ax: Axes | None = None) -> Figure:
    """Estimated time, relative to the fastest plan, over the predicted peak.

    Args:
        frontier: what to draw.
        ax: matplotlib axes to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, axes = axes_for(ax)
    series = frontier_series(frontier.points, frontier.others)
    xs, ys = [p.bytes / MIB for p in series.curve], [p.ratio for p in series.curve]
    axes.plot(xs, ys, drawstyle="steps-post", color="#0072B2", linewidth=2.0, label="optimal")
    if series.knee is not None:
        axes.plot(series.knee.bytes / MIB, series.knee.ratio, "o", color="#0072B2", markersize=5, label="knee")
    for group in series.groups:
        x, y = [p.bytes / MIB for p in group.points], [p.ratio for p in group.points]
        face = group.colour if group.filled else "none"
        axes.plot(x, y, group.marker, color=group.colour, markerfacecolor=face, markersize=group.size, label=group.name,
                  clip_on=False)  # fmt: skip
    axes.axvspan(0, xs[0], color="#EEEEEE", zorder=0, label="no plan is this small")
    most_bytes, most_ratio = series.most_bytes / MIB, series.most_ratio
    beyond = {p.bytes / MIB for p in series.far if p.bytes / MIB > most_bytes}
    start = series.least_bytes / MIB
    break_axis(axes, "x", start, most_bytes + 0.08 * (most_bytes - start) if most_bytes else 1, sorted(beyond))
    lowest = min(p.ratio for p in (*series.curve, *series.rivals))
    beyond = {p.ratio for p in series.far if p.ratio > most_ratio}
    break_axis(axes, "y", min(0.95, lowest - 0.05), most_ratio + 0.08 * max(0.5, most_ratio - lowest), sorted(beyond))
    certified = any(p.policy == "jax.grad" for p in frontier.others)
    axes.set_xlabel(f"peak beyond the arguments, MiB (predicted{'; jax.grad: XLA' if certified else ''})")
    axes.set_ylabel("estimated time relative to the fastest plan")
    axes.set_title("time against bytes: every budget at which the plan changes")
    legend_beside(axes)
    _add_names(figure, axes, series)
    return figure


def _add_names(figure: Figure, axes: Axes, series: FrontierSeries) -> None:
    """The numbers of policies with several points, where there is room; the legend names the others."""
    numbered = {p for group in series.groups if len(group.points) > 1 for p in group.points}
    frame, scale = axes.get_window_extent(), 72 / figure.dpi

    def at(p: Placed) -> tuple[float, float]:
        x, y = axes.transData.transform((p.bytes / MIB, p.ratio))
        return scale * (x - frame.x0), scale * (y - frame.y0)

    wanted = [p for p in series.worth_naming if p in numbered]
    for p, (right, higher) in series.named(wanted, at, scale * frame.width, scale * frame.height):
        axes.annotate(
            p.label, (p.bytes / MIB, p.ratio), (GAP if right else -GAP, higher), textcoords="offset points",
            fontsize="x-small", ha="left" if right else "right", va="center",
        )  # fmt: skip
