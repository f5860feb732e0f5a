"""A schedule as a space-time diagram: stages against actions, as the checkpointing literature draws it.

After Griewank and Walther, *Evaluating Derivatives* (2008), chapter 12, with time to the right.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ckptgrad.report.plots.style import KIND_STYLES, OTHER_STYLE, axes_for, legend_beside
from ckptgrad.report.series.spacetime import KEPT, spacetime, stage_labels
from ckptgrad.report.tables import budget_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.results.plan import Plan


MOST_LABELS = 24
# The marker and the colour of each mark.
_LOOKS = {
    "forward": ("s", "#999999"),
    "repeated forward": ("D", "#D55E00"),
    KEPT: ("o", "#000000"),
    "backward": ("<", "#E69F00"),
}


def plot_schedule(plan: Plan, ax: Axes | None = None) -> Figure:
    """Which stage each action works on, and how long boundaries are held.

    Args:
        plan: what to draw.
        ax: matplotlib axes to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, axes = axes_for(ax, 9.0, 5.0)
    n = len(plan.costs)
    diagram = spacetime(plan.schedule, plan.costs)
    held = diagram.held
    axes.hlines([b - 0.5 for b, _, _ in held], [s for _, s, _ in held], [e for _, _, e in held], color="#0072B2",
              linewidth=max(0.6, min(2.0, 80 / n)), alpha=0.55, label="boundary held")  # fmt: skip
    kept = [k for k in diagram.kept if k.share]
    if kept:
        axes.barh(
            [k.stage for k in kept], [k.end - k.start for k in kept], [0.8 * k.share for k in kept],
            [k.start for k in kept], color=KIND_STYLES["residuals"][0], alpha=0.6, edgecolor="#44444488", linewidth=0.4,
            label="kept inside the stage\n(height: share of what it could keep)",
        )  # fmt: skip
    size = max(1.5, min(6.0, 260 / max(n, len(plan.schedule) / 2)))
    others = itertools.cycle("^vPX")
    for name, points in diagram.marks.items():
        times, stages = zip(*points, strict=True)
        marker, colour = _LOOKS.get(name) or (next(others), OTHER_STYLE[0])
        face, scale = ("none", 1.8) if name == KEPT else (colour, 1.0)
        axes.plot(times, stages, marker, color=colour, markerfacecolor=face, markersize=size * scale, label=name)
    axes.set_xlabel(f"{diagram.counted}, in order")
    axes.set_ylabel("stage")
    axes.set_ylim(-1, n)
    if n <= MOST_LABELS:
        axes.set_yticks(range(n), stage_labels(plan), fontsize="small")
    axes.grid(visible=False)
    axes.set_title(f"what runs when, and what is held meanwhile: {budget_words(plan.budget)}")
    legend_beside(axes)
    return figure
