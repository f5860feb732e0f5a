"""Nested schedules, written from what is decided for each segment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.planning import Backward, ChainCosts, Forward, Free, SaveOption, StageCost
from ckptgrad.planning.nested import Keep, Split, keep_fastest, keep_lean, keep_most, write_nested
from ckptgrad.planning.random_chains import mixed_units
from ckptgrad.planning.referee import simulate
from tests.support.chains import chains
from tests.support.schedules import nested_schedules


def reading(reads_input=False, reads_output=False, stages=3):
    """Equal stages whose backwards read their input or output, or residuals alone."""
    option = SaveOption("all", 1, reads_input, reads_output, 1.0, 1.0)
    return ChainCosts((StageCost((option,), 1, 1, 1.0),) * stages)


def test_an_input_that_only_the_forward_reads_is_freed_at_once():
    actions = write_nested(reading(), lambda segment: Keep(0)).actions
    assert actions == [
        Forward(0, 0), Free(0), Forward(1, 0), Free(1), Forward(2, 0), Free(2),
        Backward(2), Backward(1), Backward(0),
    ]  # fmt: skip


def test_an_input_that_the_backward_reads_is_freed_after_it():
    actions = write_nested(reading(reads_input=True), lambda segment: Keep(0)).actions
    forwards = [Forward(i, 0) for i in range(3)]
    assert actions == [*forwards, Backward(2), Free(2), Backward(1), Free(1), Backward(0), Free(0)]


def test_an_output_that_the_backward_reads_stays_until_then():
    actions = write_nested(reading(reads_output=True), lambda segment: Keep(0)).actions
    assert actions == [
        Forward(0, 0), Free(0), Forward(1, 0), Forward(2, 0),
        Backward(2), Backward(1), Free(2), Backward(0), Free(1),
    ]  # fmt: skip


def test_a_split_runs_forward_to_it_and_restarts_from_the_segments_input():
    """The last stage first, from boundary 2; then the others from boundary 0, which is held until then."""

    def decide(segment):
        return Split(2) if (segment.first, segment.last) == (0, 2) else Keep(0)

    actions = write_nested(reading(), decide).actions
    assert actions == [
        Forward(0), Forward(1), Free(1), Forward(2, 0), Free(2), Backward(2),
        Forward(0, 0), Free(0), Forward(1, 0, False), Free(1), Backward(1), Backward(0),
    ]  # fmt: skip


def test_a_decision_hands_a_state_down():
    seen = []

    def decide(segment):
        seen.append((segment.first, segment.last, segment.state))
        return Split(1, right="right", left="left") if segment.state == "all" else Keep(0, "rest")

    write_nested(reading(), decide, "all")
    assert seen == [(0, 2, "all"), (1, 2, "right"), (2, 2, "rest"), (0, 0, "left")]


@given(st.data())
def test_every_nested_schedule_is_accepted_by_the_referee_with_the_same_figures(data):
    costs = data.draw(chains(6))
    writer = data.draw(nested_schedules(costs))
    found = simulate(writer.finish("drawn"), costs)
    assert found.peak == writer.peak
    assert found.time == pytest.approx(writer.time)


@pytest.mark.parametrize(("decide", "kept"), [(keep_fastest, "fast"), (keep_lean, "lean"), (keep_most, "most")])
def test_one_option_everywhere(decide, kept):
    """`lean` is 4 % slower than `fast`, and a tenth of its bytes; `most` is large and slow."""
    options = (SaveOption("fast", 100, False, False, 1, 1), SaveOption("lean", 10, False, False, 1, 1.08))
    stage = StageCost((*options, SaveOption("most", 200, False, False, 2, 2)), 1, 1, 1.0)
    costs = ChainCosts((stage, replace(stage, boundary_bytes=3)))
    schedule = write_nested(costs, decide(costs)).finish("one")
    assert [stage.options[k].name for k in schedule.kept.values()] == [kept, kept]


def test_deep_chains_need_no_stack():
    costs = mixed_units(5000)
    assert write_nested(costs, lambda segment: Keep(0)).time == 10_000
