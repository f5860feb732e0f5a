"""What interactive figures share."""

from __future__ import annotations

from bokeh.models import Legend, WheelZoomTool

from ckptgrad.report.interactive.looks import add_legend, new_figure, share_axis, text_of


def test_a_figure_says_what_it_shows_and_zooms_with_ctrl():
    drawn = new_figure(200, "Bytes over time")
    share_axis(drawn, "time")
    assert drawn.html_attributes["aria-label"] == "Bytes over time"
    assert drawn.toolbar.active_scroll is drawn.select_one(WheelZoomTool)
    assert drawn.select_one(WheelZoomTool).modifiers == {"ctrl": True}
    assert drawn.xaxis[0].axis_label == "time"


def test_the_legend_stands_above():
    drawn = new_figure(200, "Bytes over time")
    add_legend(drawn, [("ours", [drawn.line([0, 1], [0, 1])])])
    (legend,) = [part for part in drawn.above if isinstance(part, Legend)]
    assert [item.label.value for item in legend.items] == ["ours"]
    assert legend.click_policy == "hide"


def test_scripts_come_with_the_package():
    assert "slider.value" in text_of("tap.js")
