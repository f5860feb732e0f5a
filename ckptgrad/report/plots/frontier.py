"""A frontier: time against bytes, with others as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptgrad.report.plots.style import MIB, axes_for, legend_beside

if TYPE_CHECKING:
    from ckptgrad.planning.frontier import Point
    from ckptgrad.results.frontier import Frontier

# Marker and colour by how a policy's name begins.
_MARKERS = (
    ("jax.grad", "*", "#000000"),
    ("jax.checkpoint", "D", "#D55E00"),
    ("store_all", "s", "#009E73"),
    ("sqrt", "^", "#CC79A7"),
    ("revolve", "o", "#56B4E9"),
    ("every", "v", "#E69F00"),
    ("recompute_all", "X", "#999999"),
)


def plot_frontier(frontier: Frontier, ax: Any = None) -> Any:
    """Estimated time, against the fastest plan's, over the predicted peak.

    Args:
        frontier: what to draw.
        ax: axes of matplotlib to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, ax = axes_for(ax)
    fastest = frontier.points[-1]
    xs = [p.peak_bytes / MIB for p in frontier.points]
    ys = [_ratio(p, fastest) for p in frontier.points]
    ax.plot(xs, ys, drawstyle="steps-post", color="#0072B2", linewidth=2.0, label="optimal")
    lowest = min(ys)
    for start, marker, colour in _MARKERS:
        points = [p for p in frontier.others if p.policy.startswith(start)]
        by_label: dict[str, list[Any]] = {}
        for p in points:
            by_label.setdefault(p.policy if start == "jax.checkpoint" else start.replace("every", "every k"), []).append(p)
        for k, (label, group) in enumerate(by_label.items()):
            x, y = [p.peak_bytes / MIB for p in group], [_ratio(p, fastest) for p in group]
            hollow = {"markerfacecolor": "none"} if k % 2 else {}
            ax.plot(x, y, marker, color=colour, label=label, markersize=9 - 2 * (k // 2), **hollow)
    ax.axvspan(0, xs[0], color="#EEEEEE", zorder=0, label="below every plan")
    ax.set_xlim(0, None if fastest.peak_bytes else 1)
    ax.set_ylim(min(0.95, lowest - 0.05), None)
    ax.set_xlabel("peak beyond the arguments, MiB (predicted; jax.grad: XLA)")
    ax.set_ylabel("time, of the fastest plan's (estimated)")
    legend_beside(ax)
    return figure


def _ratio(point: Point, fastest: Point) -> float:
    """Times that are all zero are all the fastest's."""
    return point.seconds / fastest.seconds if fastest.seconds else 1.0
