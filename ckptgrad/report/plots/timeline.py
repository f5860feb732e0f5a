"""A timeline: predicted bytes as areas, with what meters observed as lines over them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.meters.buffers import KINDS
from ckptgrad.meters.meter import meters
from ckptgrad.report.plots.style import (
    BUDGET_COLOUR,
    KIND_STYLES,
    METER_STYLES,
    MIB,
    OTHER_STYLE,
    REFERENCE_COLOUR,
    REFERENCE_DASHES,
    axes_for,
    legend_beside,
)
from ckptgrad.report.series.top import timeline_top
from ckptgrad.report.series.words import during

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
    for (name, reading), dashes in zip(timeline.references.items(), itertools.cycle(REFERENCE_DASHES)):
        points = dict(reading.curve) or {0.0: reading.bytes or 0, 1.0: reading.bytes or 0}
        label = f"{name}, over its own time,\npeak {format_bytes(reading.bytes or 0)}"
        axes.plot([*points], [held / MIB for held in points.values()], dashes, color=REFERENCE_COLOUR, linewidth=1.4,
                  label=label, zorder=0.5)  # fmt: skip
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
    axes.set_title(f"{timeline.name}: what is held while the gradient runs")
    axes.set_xlim(0, 1)
    top = timeline_top(timeline)
    axes.set_ylim(0, (1 if top.beyond else 1.25) * top.shown / MIB)
    if top.beyond:
        axes.annotate(f"\u2191 {top.beyond}", (0.5, 1), (0, -4), xycoords="axes fraction", textcoords="offset points",
                      ha="center", va="top", fontsize="small",
                      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1})  # fmt: skip
    axes.set_xlabel("share of the gradient's time")
    axes.set_ylabel("MiB beyond the arguments")
    legend_beside(axes)
    return figure


def _mark_peak(timeline: Timeline, ax: Axes) -> None:
    x = sum(timeline.worst) / 2
    peak = timeline.moments[timeline.peak_at]
    lines = [f"predicted peak {format_bytes(timeline.peak_bytes)}:", during(replace(peak, chunks=None))]
    lines += [f"in {peak.chunks}"] if peak.chunks else []
    ax.annotate(
        "\n".join(lines), (x, timeline.peak_bytes / MIB), (10 if x < 0.6 else -10, 22), textcoords="offset points",
        fontsize="small", ha="left" if x < 0.6 else "right", arrowprops={"arrowstyle": "->", "linewidth": 0.8},
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )  # fmt: skip
