"""A timeline buffer by buffer, with what runs when below it, and tables of what is held at the moment that is chosen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

from bokeh.events import Tap
from bokeh.layouts import column, row
from bokeh.models import (
    BoxAnnotation,
    CDSView,
    Checkbox,
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    Div,
    IndexFilter,
    LabelSet,
    Range1d,
    Slider,
    Span,
    TextInput,
    UIElement,
)
from bokeh.plotting import figure

from ckptgrad.bytes import format_bytes
from ckptgrad.meters.buffers import KINDS, Buffer
from ckptgrad.meters.meter import meters
from ckptgrad.report import registry
from ckptgrad.report.interactive.looks import DASHES, HATCHES, Drawn, add_legend, hover, new_figure, script, share_axis
from ckptgrad.report.interactive.tables import Column, data_table, width_of
from ckptgrad.report.plots.style import (
    BUDGET_COLOUR,
    KIND_STYLES,
    METER_STYLES,
    OTHER_STYLE,
    PASS_STYLES,
    REFERENCE_COLOUR,
    REFERENCE_DASHES,
)
from ckptgrad.report.series.passes import passes
from ckptgrad.report.series.stack import Stack, stack
from ckptgrad.report.series.top import timeline_top
from ckptgrad.report.series.units import Unit, unit_for
from ckptgrad.report.series.words import INSIDE, briefly, doing, during, layer_of, line_of
from ckptgrad.results.at_peak import MOST_NAMED, named_arrays
from ckptgrad.results.lives import Life
from ckptgrad.results.timeline import Timeline

HEIGHT, STRIP_HEIGHT = 430, 70
ROOM = 1.2  # of the axis above what is highest
LABEL = 0.1  # of the axis: the height of a line of text
_BUFFERS = {
    "size": "bytes",
    "kind": "kind",
    "type": "type",
    "what": "made by",
    "stage": "stage",
    "layer": "layer",
    "line": "line",
    "from": "held from",
    "until": "to",
}
_LAYERS = (
    Column("size", "bytes", 90, right=True),
    Column("share", "share", 70, right=True),
    Column("layer", "layer", 430),
    Column("count", "buffers", 70, right=True),
)
CAPTION = (
    "Every block is a buffer: as wide as it is held long, as high as it has bytes. Point at one for its shape, layer and "
    "line. Click in the figure, or move the slider, to list what is held at that moment. Drag to move, Ctrl and the wheel "
    "to zoom; with the keyboard, arrow keys move, + and - zoom, 0 shows all."
)
_CARD = (
    "<div><b>@life{what}</b> @life{type}<br>@life{size}, @life{kind}<br>@life{layer} @life{line}<br>"
    "from the @life{start} to the @life{end}</div><div style='max-width:36em'>@life{inside}</div>"
)
_ACTION = "<div><b>@what</b><br>@layer @line<br>@chunks<br>holds @size at its worst moment</div>"


@registry.interactive.register(Timeline)
def interactive(timeline: Timeline) -> dict[str, Callable[[], Drawn]]:
    """Live bytes over time."""
    return {"timeline": partial(_drawn, timeline)}


def _drawn(timeline: Timeline) -> Drawn:
    held = stack(timeline)
    top = timeline_top(timeline)
    unit = unit_for(top.shown)
    whole = ROOM * top.all / unit.bytes
    seen = top.shown / unit.bytes if top.beyond else whole
    order = sorted(range(len(held.lives)), key=lambda j: (j >= held.named, -held.lives[j].buffer.bytes))
    lives, rows, named = _lives(timeline, held, order)
    moments = _moments(timeline)
    above = new_figure(
        HEIGHT,
        f"Live bytes of {timeline.name} over time, buffer by buffer",
        name="memory",
        x_range=Range1d(start=0, end=1, bounds=(0, 1)),
        y_range=Range1d(start=0, end=seen, reset_end=whole, bounds=(0, whole)),
    )
    references = [*_references(above, timeline, unit)]
    entries = [*_blocks(above, held, rows, lives, unit), *_curves(above, timeline, unit), *references]
    above.yaxis.axis_label = f"{unit.name} beyond the arguments"
    share_axis(above, "share of the gradient's estimated time")
    _mark_peak(above, timeline, unit, seen)
    if top.beyond:
        _say_beyond(above, top.beyond, seen)
    below = _strip(moments, above)
    add_legend(above, entries)
    ready, choice = _choice(timeline, named, lives, moments, (above, below))
    return Drawn(column(above, below, *choice, sizing_mode="stretch_width"), CAPTION, ready)


def _lives(timeline: Timeline, held: Stack, order: Sequence[int]) -> tuple[ColumnDataSource, dict[int, int], int]:
    """A row for each buffer in that order and, below the transients of the peak, the arrays that they may be.

    Returns:
        The rows, the row of each life of the stack, and the number of rows that are single buffers.
    """
    moments, columns = timeline.moments, dict[str, list[Any]]()
    rows, named, entries = dict[int, int](), held.named, list[tuple[Life, bool]]()
    for j in order:
        rows[j] = len(entries)
        entries.append((held.lives[j], False))
        if j < held.named and _is_peak_inside(timeline, held.lives[j]):
            arrays = [Life(replace(b, kind=INSIDE), timeline.peak_at, timeline.peak_at) for b in timeline.inside]
            entries += [(life, True) for life in arrays]
            named += len(arrays)
    for life, is_estimate in entries:
        b = life.buffer
        inside = not is_estimate and _is_peak_inside(timeline, life)
        cells = {
            "bytes": b.bytes,
            "size": format_bytes(b.bytes),
            "kind": b.kind,
            "type": b.type,
            "what": b.what,
            "stage": "" if b.stage is None else b.stage,
            "layer": b.name or layer_of(b.source),
            "line": line_of(b.source),
            "start": doing(moments[life.first].action),
            "end": doing(moments[life.last].action),
            "from": briefly(moments[life.first].action),
            "until": briefly(moments[life.last].action),
            "inside": _inside_words(timeline.inside) if inside else "",
            "estimate": is_estimate,
            "first": life.first,
            "last": life.last,
        }
        for name, value in cells.items():
            columns.setdefault(name, []).append(value)
    return ColumnDataSource(columns), rows, named


def _worst_places(timeline: Timeline) -> list[float]:
    """For each moment the middle of its part in which most is held."""
    worst: dict[int, tuple[int, float]] = {}
    for part in timeline.parts:
        size = sum(part.bytes.values())
        if part.moment not in worst or size > worst[part.moment][0]:
            worst[part.moment] = size, (part.start + part.end) / 2
    return [worst[k][1] for k in range(len(timeline.moments))]


def _is_peak_inside(timeline: Timeline, life: Life) -> bool:
    """Whether it is what the stage holds inside at the peak."""
    return life.buffer.kind == "transients" and life.buffer.shape is None and life.first == life.last == timeline.peak_at


def _inside_words(arrays: Sequence[Buffer]) -> str:
    words = named_arrays(arrays)
    more = f", {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return f"inside, as estimated: {', '.join(words[:MOST_NAMED])}{more}" if words else ""


def _moments(timeline: Timeline) -> ColumnDataSource:
    """A row for each action."""
    worst = _worst_places(timeline)
    starts, ends = zip(*timeline.progress, strict=True)
    moments = timeline.moments
    return ColumnDataSource(
        {
            "left": starts,
            "right": ends,
            "at": worst,
            "bytes": [m.total for m in moments],
            "size": [format_bytes(m.total) for m in moments],
            "what": [doing(m.action) for m in moments],
            "words": [during(m) for m in moments],
            "pass": passes(moments),
            "layer": [layer_of(m.place) for m in moments],
            "line": [line_of(m.place) for m in moments],
            "chunks": [f"in {m.chunks}" if m.chunks else "whole" for m in moments],
        }
    )


def _blocks(
    drawn: figure, held: Stack, rows: Mapping[int, int], lives: ColumnDataSource, unit: Unit
) -> Iterator[tuple[str, list[Any]]]:
    """The buffers, kind by kind, each with its row in `lives`; yields the entries of the legend."""
    renderers = []
    for kind in KINDS:
        blocks = [block for block in held.blocks if held.lives[block.life].buffer.kind == kind]
        if not blocks:
            continue
        colour, hatch = KIND_STYLES.get(kind, OTHER_STYLE)
        source = ColumnDataSource(
            {
                "life": [rows[block.life] for block in blocks],
                "left": [block.left for block in blocks],
                "right": [block.right for block in blocks],
                "bottom": [block.bottom / unit.bytes for block in blocks],
                "top": [block.top / unit.bytes for block in blocks],
            }
        )
        renderer = drawn.quad(
            "left", "right", "top", "bottom", source=source, fill_color=colour, line_color="#444444", line_alpha=0.6,
            line_width=0.5, hatch_pattern=HATCHES[hatch], hatch_color="#444444", hatch_alpha=0.45, hatch_scale=8,
            hover_line_color="#000000", hover_line_alpha=1.0, hover_fill_color=colour, hover_fill_alpha=0.75,
        )  # fmt: skip
        renderers.append(renderer)
        yield kind, [renderer]
    look_up = CustomJSHover(args={"lives": lives}, code="return String(lives.data[format][value])")
    drawn.add_tools(hover(renderers, _CARD, life=look_up))


def _references(drawn: figure, timeline: Timeline, unit: Unit) -> Iterator[tuple[str, list[Any]]]:
    """What others hold, behind all else; yields the entries of the legend."""
    for (name, reading), dashes in zip(timeline.references.items(), itertools.cycle(REFERENCE_DASHES), strict=False):
        points = dict(reading.curve) or {0.0: reading.bytes or 0, 1.0: reading.bytes or 0}
        line = drawn.line([*points], [held / unit.bytes for held in points.values()], line_color=REFERENCE_COLOUR,
                          line_dash=DASHES[dashes], line_width=2)  # fmt: skip
        drawn.add_tools(hover([line], f"<div>{escape(name)}: @y{{0.0}} {unit.name}</div>"))
        yield f"{name}, over its own time, peak {format_bytes(reading.bytes or 0)}", [line]


def _curves(drawn: figure, timeline: Timeline, unit: Unit) -> Iterator[tuple[str, list[Any]]]:
    """What meters observed, and the budget; yields the entries of the legend."""
    known = meters()
    for name, reading in timeline.readings.items():
        if reading.bytes is None:
            continue
        colour, dashes, width = METER_STYLES.get(name, ("#000000", ":", 1.0))
        # Of several actions that take no time, the last one says what is held.
        points = dict(reading.curve) if reading.curve else {0.0: reading.bytes, 1.0: reading.bytes}
        line = drawn.line(
            [*points], [held / unit.bytes for held in points.values()], line_color=colour, line_dash=DASHES[dashes],
            line_width=width + 0.4, name=known[name].label,
        )  # fmt: skip
        drawn.add_tools(hover([line], f"<div>{known[name].label}: @y{{0.0}} {unit.name}</div>"))
        yield f"{known[name].label}, peak {format_bytes(reading.bytes)}", [line]
    if timeline.budget is not None:
        level = timeline.budget / unit.bytes
        line = drawn.line([0, 1], [level, level], line_color=BUDGET_COLOUR, line_dash="dotdash", line_width=2)
        yield f"budget {format_bytes(timeline.budget)}", [line]


def _say_beyond(drawn: figure, text: str, height: float) -> None:
    """At the top, how high goes what leaves the figure there, and how it is seen."""
    source = ColumnDataSource({"x": [0.5], "y": [height], "text": [f"\u2191 {text} (Reset or 0 shows all)"]})
    label = LabelSet(x="x", y="y", text="text", source=source, y_offset=-4, text_baseline="top", text_align="center",
                     text_font_size="13px", background_fill_color="#ffffff", background_fill_alpha=0.85)  # fmt: skip
    drawn.add_layout(label)
    code = "label.visible = axis.end <= height * 1.01"
    drawn.y_range.js_on_change("end", CustomJS(args={"label": label, "axis": drawn.y_range, "height": height}, code=code))


def _mark_peak(drawn: figure, timeline: Timeline, unit: Unit, height: float) -> None:
    moment, (start, end) = timeline.moments[timeline.peak_at], timeline.worst
    x, y = (start + end) / 2, timeline.peak_bytes / unit.bytes
    # A budget just above the peak, or at it, is not written over.
    budget = (timeline.budget or 0) / unit.bytes
    above = budget if -LABEL / 4 * height <= budget - y <= LABEL * height else y
    source = ColumnDataSource(
        {
            "x": [x],
            "y": [y],
            "above": [max(y, above)],
            "text": [f"predicted peak {format_bytes(timeline.peak_bytes)}: {during(moment)}"],
        }
    )
    drawn.scatter("x", "y", source=source, marker="inverted_triangle", size=11, color="#000000")
    align = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"
    drawn.add_layout(
        LabelSet(x="x", y="above", text="text", source=source, y_offset=8, text_align=align, text_font_size="13px",
                 background_fill_color="#ffffff", background_fill_alpha=0.85)
    )  # fmt: skip


def _strip(moments: ColumnDataSource, above: figure) -> figure:
    """What runs when, under the same axis."""
    drawn = new_figure(STRIP_HEIGHT, "What runs when", x_range=above.x_range, y_range=(0, 1), toolbar_location=None)
    entries = []
    for name, (colour, hatch) in PASS_STYLES.items():
        rows = [k for k, own in enumerate(moments.data["pass"]) if own == name]
        if rows:
            quads = drawn.quad(
                "left", "right", 1, 0, source=moments, view=CDSView(filter=IndexFilter(indices=rows)), fill_color=colour,
                hatch_pattern=HATCHES[hatch], hatch_color="#222222", hatch_alpha=0.6, hatch_scale=8, line_color="#ffffff",
                line_width=0.5,
            )  # fmt: skip
            entries.append((name, [quads]))
    drawn.add_tools(hover([quads for _, (quads,) in entries], _ACTION))
    drawn.yaxis.visible = drawn.xaxis.visible = drawn.ygrid.visible = False
    add_legend(drawn, entries)
    return drawn


def _choice(
    timeline: Timeline, named: int, lives: ColumnDataSource, moments: ColumnDataSource, figures: tuple[figure, ...]
) -> tuple[CustomJS, list[UIElement]]:
    """How a moment is chosen, and what is held then, buffer by buffer and layer by layer; and the script that lists it."""
    last = len(timeline.moments) - 1
    slider = Slider(
        title="moment", start=0, end=max(1, last), step=1, value=timeline.peak_at, sizing_mode="stretch_width",
        html_attributes={"aria-label": "the moment whose buffers are listed"}, name="moment",
    )  # fmt: skip
    head = Div(text="", name="head", html_attributes={"role": "status", "aria-live": "polite"}, sizing_mode="stretch_width")
    search = TextInput(placeholder="search: a layer, line, type or kind", name="search", width=340)
    every = Checkbox(label="all buffers, whenever they are held", active=False, name="every")
    rows = IndexFilter(indices=[])
    layers = ColumnDataSource({column.field: [] for column in _LAYERS})
    marks, spans = [], []
    for drawn in figures:
        marks.append(Span(location=0, dimension="height", line_dash="dashed", line_width=2, line_color="#222222"))
        drawn.add_layout(marks[-1])
        spans.append(
            BoxAnnotation(left=0, right=0, fill_color="#222222", fill_alpha=0.07, line_color=None, level="underlay")
        )
        drawn.add_layout(spans[-1])
    changed = script(
        "moment.js", slider=slider, head=head, search=search, every=every, lives=lives, named=named, moments=moments,
        rows=rows, layers=layers, marks=marks, spans=spans,
    )  # fmt: skip
    slider.js_on_change("value", changed)
    search.js_on_change("value_input", changed)
    every.js_on_change("active", changed)
    for drawn in figures:
        drawn.js_on_event(Tap, script("tap.js", slider=slider, moments=moments))
    columns = [
        Column(field, title, width_of([title, *map(str, lives.data[field])]), right=field in ("size", "stage"))
        for field, title in _BUFFERS.items()
    ]
    view, most = CDSView(filter=rows), len(timeline.alive) + len(timeline.inside)
    buffers = data_table(columns, lives, "buffers", "Buffers held at the chosen moment", view, most)
    by_layer = data_table(
        _LAYERS, layers, "layers", "What is held at the chosen moment, by layer", None, min(len(timeline.alive), 8)
    )
    return changed, [slider, head, row(search, every), buffers, Div(text="<b>the same by layer</b>"), by_layer]
