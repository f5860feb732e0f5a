"""A timeline: predicted bytes as areas, with what meters observed as lines over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.meters.buffers import KINDS
from ckptgrad.meters.meter import meters
from ckptgrad.report.plots.style import BUDGET_COLOUR, KIND_STYLES, METER_STYLES, MIB, OTHER_STYLE, axes_for, legend_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.results.timeline import Timeline


def plot_timeline(timeline: Timeline, ax: Axes | None = None) -> Figure:
    """Bytes beyond the arguments over the share of the estimated time.

    Args:
        timeline: what to draw.
        ax: matplotlib axes to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, axes = axes_for(ax)
    edges = [0.0]
    stacks: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _, end, held in timeline.course:
        if end > edges[-1]:
            edges.append(end)
            for kind in KINDS:
                stacks[kind].append(held[kind] / MIB)
    below = [0.0] * (len(edges) - 1)
    for kind in KINDS:
        colour, hatch = KIND_STYLES.get(kind, OTHER_STYLE)
        top = [a + b for a, b in zip(below, stacks[kind], strict=True)]
        if any(stacks[kind]):
            axes.fill_between(
                edges, [*below, below[-1]], [*top, top[-1]], step="post", facecolor=colour, hatch=hatch,
                edgecolor="#44444488", linewidth=0.0, label=kind,
            )  # fmt: skip
        below = top
    known = meters()
    for name, reading in timeline.readings.items():
        colour, dashes, width = METER_STYLES.get(name, ("#000000", ":", 1.0))
        if reading.curve:
            # Of several actions that take no time, the last one says what is held.
            xs, ys = zip(*dict(reading.curve).items(), strict=True)
            peak = f"{known[name].label}, peak {format_bytes(reading.bytes or 0)}"
            style = "steps-post" if name == "ledger" else "default"
            axes.plot(xs, [y / MIB for y in ys], dashes, color=colour, linewidth=width, label=peak, drawstyle=style)
        elif reading.bytes is not None:
            label = f"{known[name].label}, peak {format_bytes(reading.bytes)}"
            axes.axhline(reading.bytes / MIB, linestyle=dashes, color=colour, linewidth=width, label=label)
    if timeline.budget is not None:
        label = f"budget {format_bytes(timeline.budget)}"
        axes.axhline(timeline.budget / MIB, linestyle="-.", color=BUDGET_COLOUR, linewidth=1.2, label=label)
    _mark_peak(timeline, axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, _highest(timeline) * 1.25)
    axes.set_xlabel("share of the gradient's time")
    axes.set_ylabel("MiB beyond the arguments")
    legend_beside(axes)
    return figure


def _mark_peak(timeline: Timeline, ax: Axes) -> None:
    moment = timeline.moments[timeline.peak_at]
    x = sum(timeline.worst) / 2
    text = f"predicted peak {format_bytes(timeline.peak_bytes)}, {moment.action}"
    ax.annotate(
        text, (x, timeline.peak_bytes / MIB), (x, _highest(timeline) * 1.15), ha="left" if x < 0.6 else "right",
        arrowprops={"arrowstyle": "->", "linewidth": 0.8}, fontsize="small",
    )  # fmt: skip


def _highest(timeline: Timeline) -> float:
    """MiB of the highest thing that is drawn."""
    highest = max([timeline.peak_bytes, *(r.bytes or 0 for r in timeline.readings.values()), timeline.budget or 0])
    return (highest or 1) / MIB  # axes without height cannot be drawn
