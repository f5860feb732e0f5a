"""Schedules as points and spans."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.planning import ChainCosts
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.report.series.spacetime import spacetime, stage_label
from ckptgrad.results.over_chunks import Chunks
from tests.cases.results import LINE


def test_space_and_time_of_a_schedule():
    schedule = Schedule(
        (Forward(0), Forward(1, 0), Backward(1), Free(1), Forward(0, 0, False), Backward(0), Free(0)), "by hand"
    )
    found = spacetime(schedule, ChainCosts.uniform(2))
    assert found.held == [(1, 0, 3)]
    assert found.marks == {
        "forward": [(0, 0), (1, 1)],
        "repeated forward": [(3, 0)],
        "residuals kept": [(1, 1), (3, 0)],
        "backward": [(2, 1), (4, 0)],
    }
    assert [(kept.stage, kept.start, kept.end) for kept in found.kept] == [(1, 1, 3), (0, 3, 5)]
    assert (found.time, found.counted) == (5, "forwards and backwards")


def test_two_budgets_differ_in_what_is_kept_inside():
    """Of an option of half the bytes half a bar is drawn."""
    stage = ChainCosts.uniform(1).stages[0]
    options = (replace(stage.options[0], residual_bytes=8), replace(stage.options[0], name="half", residual_bytes=4))
    costs = replace(ChainCosts.uniform(1), stages=(replace(stage, options=options),))
    kept = [spacetime(Schedule((Forward(0, k, False), Backward(0)), "by hand"), costs).kept for k in (0, 1)]
    assert [(k.bytes, k.share, k.option) for (k,) in kept] == [(8, 1.0, options[0].name), (4, 0.5, "half")]


def test_a_stage_is_labelled_by_its_layer_or_its_line():
    assert stage_label(1, replace(LINE, scope="GPT/attn")) == "1  GPT/attn"
    assert stage_label(0, LINE) == "0  model.py:12 (layer)"
    assert stage_label(0, None) == "0"
    assert stage_label(2, LINE, Chunks(8, 128, "")) == "2  model.py:12 (layer), 8 chunks"
