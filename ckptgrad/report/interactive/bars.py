"""Stacked or grouped bars, one place for each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange
from bokeh.plotting import figure
from bokeh.transform import dodge

from ckptgrad.report.interactive.looks import HATCHES, add_legend, hover, new_figure

HEIGHT, WIDTH = 260, 0.85
PLACES = 6  # of fewer bars none is wider than if there were as many


def bars(
    label: str,
    places: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    said: Mapping[str, Sequence[str]],
    styles: Mapping[str, tuple[str, str]],
    stacked: bool,
    **options: Any,
) -> figure:
    """Bars.

    Args:
        label: what they show.
        places: names along the axis.
        rows: heights, by what they are, for each place.
        said: the same in words, with units.
        styles: colour and hatch of each row.
        stacked: on top of each other, or side by side.
        options: of the figure.
    """
    names = list(dict.fromkeys(places))
    whole = min(WIDTH, WIDTH * len(names) / PLACES) if stacked else WIDTH
    drawn = new_figure(HEIGHT, label, **{"x_range": FactorRange(factors=names), **options})
    bottom, entries, width = [0.0] * len(places), [], whole if stacked else whole / max(1, len(rows))
    for k, (name, heights) in enumerate(rows.items()):
        colour, hatch = styles[name]
        below = bottom if stacked else [0.0] * len(places)
        top = [a + b for a, b in zip(below, heights, strict=True)]
        source = ColumnDataSource(
            {"place": [*places], "bottom": below, "top": top, "said": [*said[name]], "name": [name] * len(places)}
        )
        x: Any = "place" if stacked else dodge("place", (k + 0.5) * width - whole / 2, range=drawn.x_range)
        bar = drawn.vbar(
            x=x, width=width * 0.96, top="top", bottom="bottom", source=source, fill_color=colour, line_color="#444444",
            line_width=0.5, hatch_pattern=HATCHES[hatch], hatch_color="#444444", hatch_alpha=0.5, hatch_scale=8,
        )  # fmt: skip
        entries.append((name, [bar]))
        bottom = top
    drawn.add_tools(hover([bar for _, (bar,) in entries], "<div><b>@place</b><br>@name: @said</div>"))
    drawn.y_range.start = 0  # pyright: ignore[reportAttributeAccessIssue]
    if len(names) > 6 or max(map(len, names), default=0) > 14:
        drawn.xaxis.major_label_orientation = 0.6
    add_legend(drawn, entries)
    return drawn
