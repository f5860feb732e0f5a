"""The picture of a timeline."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report.plots.timeline import plot_timeline
from tests.cases.results import TIMELINE


def test_the_timeline_marks_peak_budget_and_meters(shown):
    ax = shown["timeline"].plot().axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    for part in ("results", "boundaries", "XLA's buffer assignment, peak", "ledger", "budget"):
        assert any(part in label for label in labels)
    assert any("predicted peak" in text.get_text() for text in ax.texts)


def test_areas_are_as_high_as_what_is_held():
    """16 KiB between two and four of five seconds, above which nothing is stacked."""
    ax = plot_timeline(TIMELINE).axes[0]
    corners = [tuple(point) for area in ax.collections for path in area.get_paths() for point in path.vertices]
    assert max(y for _, y in corners) * 1024 == 16
    assert sorted({round(float(x), 6) for x, y in corners if y * 1024 == 16}) == [0.4, 0.8]
    assert [line.get_ydata()[0] * 1024 for line in ax.lines if "budget" in line.get_label()] == [20]


def test_a_meter_without_a_curve_is_a_level_and_one_without_bytes_is_left_out():
    readings = TIMELINE.readings
    level = replace(readings["xla"], curve=())
    ax = plot_timeline(replace(TIMELINE, budget=None, readings={"xla": level, "resident": readings["resident"]})).axes[0]
    (line,) = ax.lines
    assert {y * 1024 for y in line.get_ydata()} == {18}


def test_it_is_drawn_on_given_axes():
    ax = plot_timeline(TIMELINE).axes[0]
    ax.clear()
    assert plot_timeline(TIMELINE, ax) is ax.figure
    assert ax.collections
