"""The ledger against the referee, which is written apart from it, on random valid schedules; and kind by kind."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.errors import ScheduleError
from ckptgrad.planning import Backward, ChainCosts, Forward, Free, Schedule
from ckptgrad.planning.ledger import Ledger, Storage, balance_at, first_at, follow, opening
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate
from ckptgrad.planning.writer import ScheduleWriter
from tests.support.chains import chains
from tests.support.schedules import nested_schedules, valid_schedules

relaxed = settings(max_examples=40, deadline=None)


def assert_as_the_referee(schedule: Schedule, costs: ChainCosts) -> None:
    judged, moments = simulate(schedule, costs), list(follow(costs, schedule))
    assert tuple(m.stored.total + m.transients for m in moments) == judged.timeline
    assert moments[-1].end == pytest.approx(judged.time)
    assert balance_at(costs, schedule, judged.peak_at) == moments[judged.peak_at]
    assert first_at(costs, schedule, judged.peak) == judged.peak_at
    writer = ScheduleWriter(costs)
    writer.replay(schedule)
    assert writer.peak == judged.peak
    assert not judged.peak or writer.peak_stage == min(schedule.actions[judged.peak_at].about, len(costs) - 1)
    assert writer.time == pytest.approx(judged.time)
    assert writer.live == costs.held_bytes + costs.boundary_bytes(len(costs)) + costs.cotangent_bytes(0)


@relaxed
@given(st.data(), chains(), st.booleans())
def test_wandering_schedules_hold_what_the_referee_counts(data, costs, negative):
    if negative:
        costs = overwriting(costs)
    assert_as_the_referee(Schedule(tuple(data.draw(valid_schedules(costs))), "wandering"), costs)


@relaxed
@given(st.data(), chains(12))
def test_nested_schedules_hold_what_the_referee_counts(data, costs):
    writer = data.draw(nested_schedules(costs))
    schedule = writer.finish("nested")
    assert writer.peak == simulate(schedule, costs).peak
    assert_as_the_referee(schedule, costs)


def overwriting(costs: ChainCosts) -> ChainCosts:
    """Backwards that hold less than what they read and write together."""

    def stage(cost):
        options = tuple(replace(o, backward_transient=-o.backward_transient) for o in cost.options)
        return replace(cost, options=options)

    return replace(costs, stages=tuple(map(stage, costs.stages)))


@relaxed
@given(st.data(), chains())
def test_bytes_by_kind_are_those_of_what_is_held_by_number(data, costs):
    for moment in follow(costs, data.draw(valid_schedules(costs))):
        boundaries, residuals, cotangents = moment.held
        assert moment.stored == Storage(
            results=costs.held_bytes,
            boundaries=sum(map(costs.boundary_bytes, boundaries)),
            residuals=sum(costs.stages[i].options[k].residual_bytes for i, k in residuals.items()),
            gradients=sum(map(costs.cotangent_bytes, cotangents)),
        )


def test_changes_of_one_schedule_done_by_hand():
    costs = ChainCosts.uniform(2, boundary_bytes=10, residual_bytes=3, cotangent_bytes=7, held_bytes=100)
    ledger, held = Ledger(costs), opening(costs)
    assert held == Storage(100, 10, 0, 7)
    changes = list(ledger.changes((Forward(0), Forward(0), Forward(1, 0), Backward(1), Free(1))))
    assert [(c.during, c.after) for c in changes] == [(10, 10), (10, 0), (13, 13), (7, -3), (-10, -10)]
    assert changes[1].transients == 10  # The output that it replaces is held until it is done.
    assert (ledger.boundaries, ledger.residuals, ledger.cotangent) == ({0, 2}, {}, 1)


def test_moments_follow_one_another():
    costs = random_chain(6, 2, seed=4)
    writer = ScheduleWriter(costs)
    writer.replay([*map(Forward, range(6))])
    moments = list(follow(costs, writer.actions))
    assert all(before.end == after.start for before, after in itertools.pairwise(moments))
    assert moments[-1].end == pytest.approx(writer.time)


@pytest.mark.parametrize("strange", ["F0", None, ("F", 0)])
def test_what_is_not_an_action_is_refused(strange):
    with pytest.raises(ScheduleError, match="not an action"):
        Ledger(ChainCosts.uniform(3)).run([strange])
