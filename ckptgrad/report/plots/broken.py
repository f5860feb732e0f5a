"""Axes that are broken where all but a few points end, so that points far off do not press the others together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEYOND = 0.16  # of the axis, for what lies beyond the break


def break_axis(ax: Axes, which: Literal["x", "y"], start: float, end: float, far: Sequence[float]) -> None:
    """Show `start` to `end` of an axis as it is, and what lies beyond in a small part behind two slanted strokes.

    Without points beyond the end the axis just ends there.

    Args:
        ax: what is drawn on.
        which: the axis.
        start, end: what is seen as it is.
        far: points beyond the end, which get a tick each.
    """
    axis: Any = ax.xaxis if which == "x" else ax.yaxis
    limits = ax.set_xlim if which == "x" else ax.set_ylim
    if not far:
        limits(start, end)
        return
    import numpy as np

    last = max(far) + 0.25 * (max(far) - end)
    scale = BEYOND / (1 - BEYOND) * (end - start) / (last - end)

    def forward(values: Any) -> Any:
        return np.where(values > end, end + (values - end) * scale, values)

    def inverse(values: Any) -> Any:
        return np.where(values > end, end + (values - end) / scale, values)

    before = [tick for tick in axis.get_major_locator().tick_values(start, end) if start <= tick <= end]
    (ax.set_xscale if which == "x" else ax.set_yscale)("function", functions=(forward, inverse))
    limits(start, last)
    ticks = [*before, *far]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in before] + [f"{value:.3g}" for value in far])
    place = 1 - BEYOND
    for shift in (-0.006, 0.006):
        xs, ys = [place + shift - 0.006, place + shift + 0.006], [-0.02, 0.02]
        if which == "y":
            xs, ys = [-0.01, 0.01], [place + 1.6 * shift - 0.01, place + 1.6 * shift + 0.01]
        ax.plot(xs, ys, transform=ax.transAxes, color="#000000", linewidth=1.0, clip_on=False, zorder=5)
