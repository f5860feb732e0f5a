"""Actions in words."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report.series.words import briefly, doing, during, layer_of, line_of
from tests.cases.results import LINE, TIMELINE


def test_actions_are_words():
    assert [doing(a) for a in ("F3:1", "F3~", "B12", "-4", ">2:1", "?5")] == [
        "forward of stage 3", "forward of stage 3", "backward of stage 12", "freeing of boundary 4",
        "sending away of boundary 2", "? 5",
    ]  # fmt: skip


def test_columns_have_fewer_words():
    assert [briefly(a) for a in ("F3:1", "B12", "-4")] == ["forward 3", "backward 12", "freeing 4"]


def test_a_moment_says_where_its_stage_comes_from():
    source = replace(LINE, scope="GPT/attn")
    assert during(TIMELINE.moments[0]) == "forward of stage 0"
    assert during(replace(TIMELINE.moments[2], place=source)) == "backward of stage 1 (GPT/attn, model.py:12)"


def test_layer_and_line_can_be_told_apart():
    source = replace(LINE, scope="GPT/attn")
    assert (layer_of(source), line_of(source)) == ("GPT/attn", "model.py:12")
    assert line_of(LINE) == "model.py:12 (layer)"
    assert (layer_of(None), line_of(None)) == ("", "")
