"""A schedule as a space-time diagram: stages against actions, as the checkpointing literature draws it.

After Griewank and Walther, *Evaluating Derivatives* (2008), chapter 12, with time to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptgrad.report.plots.style import axes_for, legend_beside
from ckptgrad.report.schedule import spacetime

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan


def plot_schedule(plan: Plan, ax: Any = None) -> Any:
    """What each action does to which stage, and from when to when boundaries are held.

    Args:
        plan: what to draw.
        ax: axes of matplotlib to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, ax = axes_for(ax, 9.0, 5.0)
    n = len(plan.costs)
    held, first, again, kept, back, _ = spacetime(plan.schedule, n)
    ax.hlines([b - 0.5 for b, _, _ in held], [s for _, s, _ in held], [e for _, _, e in held], color="#0072B2",
              linewidth=max(0.6, min(2.0, 80 / n)), alpha=0.55, label="boundary held")  # fmt: skip
    size = max(1.5, min(6.0, 260 / max(n, len(plan.schedule) / 2)))
    for points, marker, colour, label in (
        (first, "s", "#999999", "forward"),
        (again, "D", "#D55E00", "forward, again"),
        (kept, "o", "#000000", "residuals kept"),
        (back, "<", "#E69F00", "backward"),
    ):
        if points:
            face = {"markerfacecolor": "none"} if label == "residuals kept" else {}
            scale = 1.8 if label == "residuals kept" else 1.0
            ax.plot(*zip(*points, strict=True), marker, color=colour, markersize=size * scale, label=label, **face)
    ax.set_xlabel("forwards and backwards, in order")
    ax.set_ylabel("stage")
    ax.set_ylim(-1, n)
    ax.grid(visible=False)
    legend_beside(ax)
    return figure
