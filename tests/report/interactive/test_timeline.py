"""The interactive timeline: its data, and in a browser what the mouse and the keyboard do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bokeh.models import ColumnDataSource, DataTable

import ckptgrad as cg
from ckptgrad.meters.buffers import Buffer
from ckptgrad.meters.meter import Reading
from ckptgrad.report.interactive.timeline import interactive
from ckptgrad.report.page import page
from ckptgrad.report.series.words import INSIDE
from ckptgrad.results.lives import Life
from tests.cases.results import KIB, TIMELINE, moment
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.browser import opened, point_at, texts, value


@pytest.fixture(scope="module")
def drawn():
    return interactive(TIMELINE)["timeline"]()


def test_each_buffer_is_a_row_with_when_it_is_held(drawn):
    buffers = drawn.root.select_one({"name": "buffers"})
    assert isinstance(buffers, DataTable)
    rows = dict(
        zip(buffers.source.data["kind"], zip(*map(buffers.source.data.get, ("start", "end")), strict=True), strict=True)
    )
    assert rows["boundaries"] == ("forward of stage 0", "backward of stage 1")
    assert buffers.source.data["bytes"] == sorted(buffers.source.data["bytes"], reverse=True)


def test_blocks_point_to_their_rows(drawn):
    lives = drawn.root.select_one({"name": "buffers"}).source.data
    for source in drawn.root.select({"type": ColumnDataSource}):
        if "life" in source.data:
            for life, bottom, top in zip(*map(source.data.get, ("life", "bottom", "top")), strict=True):
                assert (top - bottom) * KIB == lives["bytes"][life]


def alive(shown):
    return value(shown, "buffers", "m.view.filter.indices.length")


def test_a_click_lists_what_is_held_and_a_word_finds(tmp_path):
    """The second half of the first backward holds the most; the click is in the second forward, on the boundary."""
    file = tmp_path / "page.html"
    file.write_text(page("memory", {"Timeline": TIMELINE}))
    with opened(file) as shown:
        assert value(shown, "moment", "m.value") == TIMELINE.peak_at
        assert alive(shown) == len(TIMELINE.alive)
        shown.mouse.move(*point_at(shown, "memory", 0.3, 3.0))
        shown.locator(".bk-tooltip-content", has_text="boundaries").wait_for()
        (card,) = [text for text in texts(shown, ".bk-tooltip-content") if text.strip()]
        for part in (
            "tanh float32[8,128]",
            "4.0 KiB, boundaries",
            "model.py:12",
            "forward of stage 0",
            "backward of stage 1",
        ):
            assert part in card
        shown.mouse.click(*point_at(shown, "memory", 0.3, 3.0))
        assert value(shown, "moment", "m.value") == 1
        assert alive(shown) == len(TIMELINE.alive_during(1))
        assert "forward of stage 1" in value(shown, "head", "m.text")
        shown.get_by_placeholder("search: a layer").fill("tanh float32")
        assert alive(shown) == 1


def test_arrays_inside_stand_below_the_transients_of_the_peak_and_under_the_mouse():
    arrays = tuple(Buffer("transients", k * KIB, "tanh", (k, 256), "float32", 1) for k in (3, 2))
    data = interactive(replace(TIMELINE, inside=arrays))["timeline"]().root.select_one({"name": "buffers"}).source.data
    place = data["kind"].index("transients")
    assert data["type"][place + 1 : place + 3] == ["float32[3,256]", "float32[2,256]"]
    assert data["kind"][place + 1 : place + 3] == [INSIDE, INSIDE]
    assert [k for k, words in enumerate(data["inside"]) if words] == [place]
    assert "float32[3,256] of tanh (3.0 KiB)" in data["inside"][place]
    assert data["estimate"].count(True) == 2


def test_the_line_of_a_moment_stands_where_it_holds_the_most():
    """The last of four seconds holds the most; it is zoomed to what is ours, and everything is within reach."""
    held = Life(Buffer("transients", 4 * KIB, "inside the forward", stage=0), 0, 0)
    course = replace(TIMELINE, lives=(held,), readings={}, moments=(
        moment("F0", 0.0, 4.0, ((3.0, KIB), (4.0, 4 * KIB)), transients=4),
    )).beside(theirs=Reading(400 * KIB))  # fmt: skip
    root = interactive(course)["timeline"]().root
    sources = [s.data for s in root.select({"type": ColumnDataSource}) if "at" in s.data]
    assert sources[0]["at"] == [pytest.approx(3.5 / 4)]
    shown = root.select_one({"name": "memory"}).y_range
    assert shown.bounds == (0, shown.reset_end)
    assert (shown.end, shown.reset_end) == (pytest.approx(1.5 * 20), pytest.approx(1.2 * 400))


@pytest.mark.slow
def test_wheel_keys_and_headings(tmp_path):
    course = cg.timeline(tanh_loss, *tanh_arguments(16, 64), budget="0.6x")
    file = tmp_path / "page.html"
    file.write_text(page("memory", {"Timeline": course}))
    with opened(file) as shown:
        seen = "m.x_range.end - m.x_range.start"
        assert value(shown, "memory", seen) == 1
        shown.mouse.move(*point_at(shown, "memory", 0.5, 0.0))
        shown.keyboard.down("Control")
        shown.mouse.wheel(0, -300)
        shown.keyboard.up("Control")
        shown.wait_for_timeout(300)
        zoomed = value(shown, "memory", seen)
        assert zoomed < 1
        shown.locator("figure.drawn").first.focus()
        shown.keyboard.press("+")
        assert value(shown, "memory", seen) == pytest.approx(0.8 * zoomed)
        start = value(shown, "memory", "m.x_range.start")
        shown.keyboard.press("ArrowRight")
        assert value(shown, "memory", "m.x_range.start") > start
        shown.keyboard.press("0")
        shown.wait_for_timeout(200)
        assert value(shown, "memory", seen) == 1

        sizes = texts(shown, "[aria-label^='Buffers held'] .slick-row .slick-cell.l0")
        shown.locator("[aria-label^='Buffers held'] .slick-header-column").first.click()
        shown.wait_for_timeout(200)
        smallest_first = texts(shown, "[aria-label^='Buffers held'] .slick-row .slick-cell.l0")
        assert sizes[0] != smallest_first[0]
        assert smallest_first[0] == f"{min(b.bytes for b in course.alive)} B"
