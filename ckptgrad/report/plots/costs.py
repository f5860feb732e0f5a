"""What each stage costs: bytes and seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.planning.schedule import Forward
from ckptgrad.report.plots.style import KIND_STYLES, MIB, legend_beside, new_figure

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
    kept = plan.schedule.kept
    stages = plan.costs.stages
    options = [s.options[kept[i]] if i in kept else s.options[-1] for i, s in enumerate(stages)]
    transients = [max(o.forward_transient, o.backward_transient, 0) for o in options]
    rows = {
        "boundaries": [s.boundary_bytes / MIB for s in stages],
        "residuals": [o.residual_bytes / MIB for o in options],
        "transients": [t / MIB for t in transients],
    }
    xs = range(len(stages))
    _stack(above, xs, {k: (v, *KIND_STYLES[k]) for k, v in rows.items()})
    above.set_ylabel("MiB")
    first, repeated = [0.0 for _ in xs], [0.0 for _ in xs]
    for action in plan.schedule:
        if isinstance(action, Forward):
            bars = repeated if first[action.stage] else first
            bars[action.stage] += 1e3 * stages[action.stage].forward_seconds(action.keep, action.output)
    times = {
        "forward": (first, "#999999", ""),
        "repeated forwards": (repeated, "#D55E00", ".."),
        "backward": ([1e3 * o.backward_time for o in options], "#E69F00", "//"),
    }
    _stack(below, xs, times)
    below.set_ylabel("ms (estimated)")
    below.set_xlabel("stage")
    return figure


def _stack(ax: Axes, xs: range, rows: dict[str, tuple[list[float], str, str]]) -> None:
    bottom = [0.0] * len(xs)
    for label, (heights, colour, hatch) in rows.items():
        ax.bar(xs, heights, 0.9, bottom, color=colour, hatch=hatch, edgecolor="#44444488", linewidth=0, label=label)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    legend_beside(ax)
