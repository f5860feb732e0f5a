"""Panels of lines."""

from __future__ import annotations

from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from ckptgrad.report.interactive.lines import Line, panels


def test_a_panel_for_each_value_and_a_line_for_each_run():
    line = Line([1, 2], [3.0, 4.0], ("#000000", "--", "s"))
    shown = panels("layers", {"peak": {"ours": line, "theirs": line}, "time": {"ours": line}})
    plots = [*shown.select({"type": figure})]
    assert sorted(plot.yaxis[0].axis_label for plot in plots) == ["peak", "time"]
    named = [source.data["name"][0] for source in shown.select({"type": ColumnDataSource})]
    assert sorted(named) == ["ours", "ours", "theirs"]
