"""A frontier: time against bytes, with other policies as points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.report.plots.style import MIB, axes_for, legend_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.planning.frontier import Point
    from ckptgrad.results.frontier import Frontier

# Marker and colour by the beginning of a policy's name.
_MARKERS = (
    ("jax.grad", "*", "#000000"),
    ("jax.checkpoint", "D", "#D55E00"),
    ("store_all", "s", "#009E73"),
    ("sqrt", "^", "#CC79A7"),
    ("revolve", "o", "#56B4E9"),
    ("every", "v", "#E69F00"),
    ("recompute_all", "X", "#999999"),
)


def plot_frontier(frontier: Frontier, ax: Axes | None = None) -> Figure:
    """Estimated time, relative to the fastest plan, over the predicted peak.

    Args:
        frontier: what to draw.
        ax: matplotlib axes to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, axes = axes_for(ax)
    fastest = frontier.points[-1]
    xs = [p.peak_bytes / MIB for p in frontier.points]
    ys = [_ratio(p, fastest) for p in frontier.points]
    axes.plot(xs, ys, drawstyle="steps-post", color="#0072B2", linewidth=2.0, label="optimal")
    knee = frontier.knee
    if knee is not None:
        axes.plot(knee.peak_bytes / MIB, _ratio(knee, fastest), "o", color="#0072B2", markersize=5, label="knee")
    lowest = min(ys)
    for start, marker, colour in _MARKERS:
        points = [p for p in frontier.others if p.policy.startswith(start)]
        by_label: dict[str, list[Point]] = {}
        for p in points:
            by_label.setdefault(p.policy if start == "jax.checkpoint" else start.replace("every", "every k"), []).append(p)
        for k, (label, group) in enumerate(by_label.items()):
            x, y = [p.peak_bytes / MIB for p in group], [_ratio(p, fastest) for p in group]
            face, size = "none" if k % 2 else colour, 9 - 2 * (k // 2)
            axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=size, label=label)
    axes.axvspan(0, xs[0], color="#EEEEEE", zorder=0, label="no plan is this small")
    axes.set_xlim(0, None if fastest.peak_bytes else 1)
    axes.set_ylim(min(0.95, lowest - 0.05), None)
    certified = any(p.policy == "jax.grad" for p in frontier.others)
    axes.set_xlabel(f"peak beyond the arguments, MiB (predicted{'; jax.grad: XLA' if certified else ''})")
    axes.set_ylabel("estimated time relative to the fastest plan")
    legend_beside(axes)
    return figure


def _ratio(point: Point, fastest: Point) -> float:
    """If no plan takes any time, all are as fast as the fastest."""
    return point.seconds / fastest.seconds if fastest.seconds else 1.0
