"""A frontier: time against bytes, with every point named, and all of them in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, DataTable, LabelSet, Title
from bokeh.plotting import figure

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.interactive.looks import MARKERS, Drawn, add_legend, hover, new_figure
from ckptgrad.report.interactive.tables import Column, data_table
from ckptgrad.report.series.frontier import FrontierSeries, Placed, frontier_series
from ckptgrad.report.series.labels import GAP, Spot
from ckptgrad.report.series.units import Unit, unit_for
from ckptgrad.results.frontier import Frontier

HEIGHT, MARKER_SIZE = 430, 11
# Of the part with the points, as names are placed: the width of a page that is not wide, and what is above and below it.
WIDTH, AROUND = 900, 160
CAPTION = (
    "Each step of the line is a plan: with more bytes, less time. Point at a plan or a rival for its name, bytes and time; "
    "names are written where there is room. "
    "Drag to move, Ctrl and the wheel to zoom; with the keyboard, arrow keys move, + and - zoom, 0 shows all."
)
_CARD = "<div><b>@policy</b><br>@size, @ratio{0.00} times the fastest</div>"
_COLUMNS = (
    Column("size", "peak", 90, right=True),
    Column("times", "time, of the fastest", 140, right=True),
    Column("policy", "policy", 330),
)


@registry.interactive.register(Frontier)
def interactive(frontier: Frontier) -> dict[str, Callable[[], Drawn]]:
    """Time against bytes."""
    return {"frontier": partial(drawn_series, frontier_series(frontier.points, frontier.others))}


def drawn_series(series: FrontierSeries) -> Drawn:
    """The figure and the table of all its points; points far off are named at the edge, and seen when zoomed out."""
    unit = unit_for(series.most_bytes)
    low = min(p.ratio for p in (*series.curve, *series.rivals))
    least, most, top = series.least_bytes, series.most_bytes, series.most_ratio
    ends = least, most + 0.08 * (most - least or 1), min(0.95, low - 0.05), top + 0.1 * max(0.5, top - low)
    shown = new_figure(
        HEIGHT, "Estimated time against bytes", name="frontier", x_range=(least / unit.bytes, ends[1] / unit.bytes),
        y_range=ends[2:],
    )  # fmt: skip
    add_legend(shown, [*_curve(shown, series, unit), *_rivals(shown, series, unit), *_marked(shown, series, unit)])
    shown.xaxis.axis_label = f"peak beyond the arguments, {unit.name}"
    shown.yaxis.axis_label = "estimated time relative to the fastest plan"
    _add_names(shown, series, unit, ends)
    _name_far(shown, series, unit)
    return Drawn(column(shown, _table(series), sizing_mode="stretch_width"), CAPTION)


def _source(points: Sequence[Placed], unit: Unit) -> ColumnDataSource:
    return ColumnDataSource(
        {
            "x": [p.bytes / unit.bytes for p in points],
            "ratio": [p.ratio for p in points],
            "size": [format_bytes(p.bytes) for p in points],
            "policy": [p.policy for p in points],
            "label": [p.label for p in points],
        }
    )


def _curve(drawn: figure, series: FrontierSeries, unit: Unit) -> Iterator[tuple[str, list[Any]]]:
    source = _source(series.curve, unit)
    steps = drawn.step("x", "ratio", source=source, mode="after", line_color="#0072B2", line_width=2.5)
    dots = drawn.scatter("x", "ratio", source=source, size=4, color="#0072B2")
    drawn.add_tools(hover([dots], _CARD))
    yield "optimal", [steps, dots]


def _rivals(drawn: figure, series: FrontierSeries, unit: Unit) -> Iterator[tuple[str, list[Any]]]:
    for group in series.groups:
        source = _source(group.points, unit)
        marks = drawn.scatter(
            "x", "ratio", source=source, marker=MARKERS[group.marker], size=MARKER_SIZE + 4 * (group.marker == "*"),
            line_color=group.colour, fill_color=group.colour if group.filled else "#ffffff",
        )  # fmt: skip
        drawn.add_tools(hover([marks], _CARD))
        yield group.name, [marks]


def _marked(drawn: figure, series: FrontierSeries, unit: Unit) -> Iterator[tuple[str, list[Any]]]:
    """The knee and the chosen plan."""
    for name, point in series.marked.items():
        marker = {"knee": "circle", "chosen": "square_cross"}[name]
        mark = drawn.scatter("x", "ratio", source=_source([point], unit), marker=marker, size=15, fill_alpha=0,
                             line_color="#000000", line_width=2)  # fmt: skip
        yield name, [mark]


def _add_names(drawn: figure, series: FrontierSeries, unit: Unit, ends: tuple[float, float, float, float]) -> None:
    """Names beside the points, where there is room."""
    least, most, low, top = ends

    def at(p: Placed) -> tuple[float, float]:
        return (p.bytes - least) / (most - least) * WIDTH, (p.ratio - low) / (top - low) * (HEIGHT - AROUND)

    marked = {*series.marked.values()}
    by_kind: dict[tuple[bool, bool], list[tuple[Placed, Spot]]] = {}
    for point, spot in series.named(series.worth_naming, at, WIDTH, HEIGHT - AROUND):
        by_kind.setdefault((spot.right, point in marked), []).append((point, spot))
    for (right, bold), own in by_kind.items():
        source = _source([point for point, _ in own], unit)
        source.data["higher"] = [spot.higher for _, spot in own]
        drawn.add_layout(
            LabelSet(x="x", y="ratio", text="label", source=source, x_offset=GAP if right else -GAP,
                     y_offset={"field": "higher"}, text_align="left" if right else "right", text_baseline="middle",
                     text_font_size="11px", text_font_style="bold" if bold else "normal")
        )  # fmt: skip


def _name_far(drawn: figure, series: FrontierSeries, unit: Unit) -> None:
    """What lies beyond the axes, in the corner."""
    if not series.far:
        return
    far = ", ".join(f"{p.policy}: {format_bytes(p.bytes)}, {p.ratio:.2f}" for p in series.far)
    drawn.add_layout(Title(text=f"beyond, seen when zoomed out: {far}", align="right", text_font_size="12px"), "above")


def _table(series: FrontierSeries) -> DataTable:
    """All points, those that are marked with the reason."""
    rows = [*series.curve, *series.rivals]
    marked = {"the knee": series.knee, "chosen": series.chosen}
    if series.chosen is not None and series.chosen not in rows:
        rows.append(series.chosen)
    rows.sort(key=lambda p: p.bytes)
    source = ColumnDataSource(
        {
            "size": [format_bytes(p.bytes) for p in rows],
            "times": [f"{p.ratio:.3f}" for p in rows],
            "policy": [", ".join([p.policy, *(name for name, point in marked.items() if p == point)]) for p in rows],
        }
    )
    return data_table(_COLUMNS, source, "points", "All points of the frontier", None, len(rows))
