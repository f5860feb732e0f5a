"""A plan: its schedule in space and time, what each stage costs, and where it stands on the curve of time against bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource

from ckptgrad.bytes import format_bytes
from ckptgrad.planning.frontier import Point
from ckptgrad.report import registry
from ckptgrad.report.interactive.bars import bars
from ckptgrad.report.interactive.frontier import drawn_series
from ckptgrad.report.interactive.looks import HATCHES, Drawn, add_legend, hover, new_figure
from ckptgrad.report.plots.style import KIND_STYLES, OTHER_STYLE, PASS_STYLES
from ckptgrad.report.series.costs import cost_series
from ckptgrad.report.series.frontier import frontier_series
from ckptgrad.report.series.spacetime import KEPT, spacetime, stage_labels
from ckptgrad.report.series.units import unit_for
from ckptgrad.results.plan import Plan

MOST_ACTIONS = 20_000  # more would make a page of many MB
MOST_LABELS = 40
SCHEDULE = (
    "Stages upwards, actions to the right. A line is a boundary that is held until its backward; a wide bar is what a stage "
    "keeps inside for its backward, as high as the share of what it could keep. Point at any of them."
)
COSTS = "Above bytes, below estimated time of each stage. Point at a bar for its layer and its figures."


@registry.interactive.register(Plan)
def interactive(plan: Plan) -> dict[str, Callable[[], Drawn]]:
    """The schedule, the costs of the stages, and time against bytes."""
    figures: dict[str, Callable[[], Drawn]] = {}
    if len(plan.schedule) <= MOST_ACTIONS:
        figures = {"schedule": partial(_schedule, plan), "stage costs": partial(_costs, plan)}
    points = plan.points
    if points:
        chosen = Point(plan.simulation.peak, max(plan.simulation.time, plan.floor_seconds), plan.schedule.policy)
        figures["time against bytes"] = lambda: drawn_series(frontier_series(points, (), chosen))
    return figures


def _schedule(plan: Plan) -> Drawn:
    diagram, n, labels = spacetime(plan.schedule, plan.costs), len(plan.costs), stage_labels(plan)
    drawn = new_figure(
        max(260, min(620, 22 * n + 140)), "The schedule: stages against actions", name="schedule", y_range=(-1, n)
    )
    drawn.ygrid.visible = False
    entries: list[tuple[str, list[Any]]] = []
    kept = ColumnDataSource(
        {
            "left": [k.start for k in diagram.kept],
            "right": [k.end for k in diagram.kept],
            "top": [k.stage + 0.4 * k.share for k in diagram.kept],
            "bottom": [k.stage - 0.4 * k.share for k in diagram.kept],
            "words": [
                f"kept inside stage {labels[k.stage]}: {k.option}, {format_bytes(k.bytes)}, "
                f"{k.share:.0%} of what it could keep{_along(plan, k.stage)}"
                for k in diagram.kept
            ],
        }
    )
    colour, hatch = KIND_STYLES["residuals"]
    inside = drawn.quad(
        "left", "right", "top", "bottom", source=kept, fill_color=colour, fill_alpha=0.7, line_color="#444444",
        line_width=0.5, hatch_pattern=HATCHES[hatch], hatch_alpha=0.3, hatch_scale=8,
    )  # fmt: skip
    entries.append(("kept inside the stage", [inside]))
    held = ColumnDataSource(
        {
            "y": [b - 0.5 for b, _, _ in diagram.held],
            "start": [s for _, s, _ in diagram.held],
            "end": [e for _, _, e in diagram.held],
            "words": [f"boundary {b}, {format_bytes(plan.costs.boundary_bytes(b))}, is held" for b, _, _ in diagram.held],
        }
    )
    lines = drawn.segment("start", "y", "end", "y", source=held, line_color=KIND_STYLES["boundaries"][0], line_width=2.5)
    entries.append(("boundary held", [lines]))
    for name, points in diagram.marks.items():
        if name == KEPT:
            continue
        colour, hatch = PASS_STYLES.get(name, OTHER_STYLE)
        source = ColumnDataSource(
            {
                "left": [time for time, _ in points],
                "right": [time + 1 for time, _ in points],
                "top": [stage + 0.32 for _, stage in points],
                "bottom": [stage - 0.32 for _, stage in points],
                "words": [f"{name} of stage {labels[min(stage, n - 1)]}" for _, stage in points],
            }
        )
        boxes = drawn.quad("left", "right", "top", "bottom", source=source, fill_color=colour, line_color="#222222",
                           line_width=0.5, hatch_pattern=HATCHES[hatch], hatch_alpha=0.5, hatch_scale=8)  # fmt: skip
        entries.append((name, [boxes]))
    drawn.add_tools(hover([renderer for _, own in entries for renderer in own], "<div>@words</div>"))
    if n <= MOST_LABELS:
        drawn.yaxis.ticker = [*range(n)]
        drawn.yaxis.major_label_overrides = dict(enumerate(labels))
    drawn.yaxis.axis_label = "stage"
    drawn.xaxis.axis_label = f"{diagram.counted}, in order"
    add_legend(drawn, entries, 6)
    return Drawn(drawn, SCHEDULE)


def _along(plan: Plan, stage: int) -> str:
    """The axis whose chunks a stage runs over, in words; "" for one that runs whole."""
    chunks = plan.chunks.get(stage)
    return f"; in {chunks}" if chunks else ""


def _costs(plan: Plan) -> Drawn:
    series, labels = cost_series(plan), stage_labels(plan)
    unit = unit_for(max(map(sum, zip(*series.bytes.values(), strict=True))))
    above = bars(
        "Bytes of each stage", labels,
        {kind: [b / unit.bytes for b in row] for kind, row in series.bytes.items()},
        {kind: [format_bytes(b) for b in row] for kind, row in series.bytes.items()},
        KIND_STYLES, stacked=True,
    )  # fmt: skip
    above.yaxis.axis_label = unit.name
    below = bars(
        "Estimated time of each stage", labels,
        {name: [1e3 * t for t in row] for name, row in series.seconds.items()},
        {name: [f"{1e3 * t:.3g} ms" for t in row] for name, row in series.seconds.items()},
        PASS_STYLES, stacked=True, x_range=above.x_range,
    )  # fmt: skip
    below.yaxis.axis_label = "ms (estimated)"
    above.xaxis.visible = False
    return Drawn(column(above, below, sizing_mode="stretch_width"), COSTS)
