"""Panels of lines on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bokeh.layouts import gridplot
from bokeh.models import ColumnDataSource, UIElement

from ckptgrad.report.interactive.looks import DASHES, MARKERS, add_legend, hover, new_figure

HEIGHT, COLUMNS = 320, 2


class Line(NamedTuple):
    """Points, and how they are drawn: colour, matplotlib's dashes and marker."""

    xs: Sequence[float]
    ys: Sequence[float]
    style: tuple[str, str, str]


def panels(x: str, lines: Mapping[str, Mapping[str, Line]]) -> UIElement:
    """Panels side by side.

    Args:
        x: what stands along the horizontal axes.
        lines: by what a panel shows, and by the name of the line.
    """
    drawn = []
    for shown, named in lines.items():
        panel = new_figure(HEIGHT, f"{shown} against {x}", x_axis_type="log", y_axis_type="log")
        entries = []
        for name, line in named.items():
            colour, dashes, marker = line.style
            source = ColumnDataSource({"x": line.xs, "y": line.ys, "name": [name] * len(line.xs)})
            curve = panel.line("x", "y", source=source, line_color=colour, line_dash=DASHES[dashes], line_width=2)
            dots = panel.scatter("x", "y", source=source, marker=MARKERS[marker], size=8, color=colour)
            panel.add_tools(hover([dots], f"<div><b>@name</b><br>{x} @x<br>{shown} @y{{0.000}}</div>"))
            entries.append((name, [curve, dots]))
        panel.xaxis.axis_label, panel.yaxis.axis_label = x, shown
        add_legend(panel, entries, 3)
        drawn.append(panel)
    return gridplot(drawn, ncols=COLUMNS, sizing_mode="stretch_width", merge_tools=False)
