"""Save options that store in another memory, where it has no room for those of all stages: in numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.host_room import schedule_within_room
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.referee import simulate

# In the device's memory, away, and computed again.
OPTIONS = (
    SaveOption("kept", 8, False, False, 1.0, 1.0),
    SaveOption("away", 0, False, False, 1.2, 1.2),
    SaveOption("half away", 4, False, False, 1.1, 1.1),
    SaveOption("again", 0, True, False, 1.0, 2.0),
)
AWAY = (0, 8, 4, 0)


def chain(stages):
    return ChainCosts(tuple(StageCost(OPTIONS, 1, 1, 1.0) for _ in range(stages)), 0, 0, 0)


def planned(room, budget, stages=4, least=False):
    costs = chain(stages)
    stored = [AWAY] * stages
    schedule = schedule_within_room(costs, stored, room, lambda fewer: get_policy("optimal")(fewer, budget), least=least)
    return costs, schedule, sum(stored[i][k] for i, k in schedule.kept.items())


@pytest.mark.parametrize("room", range(0, 40, 4))
def test_what_is_stored_there_is_within_the_room_and_the_budget_is_kept(room):
    costs, schedule, stored = planned(room, 12)
    assert stored <= room
    assert simulate(schedule, costs).peak <= 12


def test_more_room_is_never_slower():
    times = [simulate(schedule, costs).time for costs, schedule, _ in (planned(room, 12) for room in range(0, 40, 8))]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_with_room_for_all_nothing_changes():
    costs, schedule, stored = planned(1000, 12)
    assert schedule == get_policy("optimal")(costs, 12)
    assert stored > 8


def test_a_budget_that_needs_more_room_is_refused_with_what_is_enough():
    stages = 3
    costs = chain(stages)
    costs = replace(costs, stages=tuple(replace(s, options=OPTIONS[:2]) for s in costs.stages))
    stored = [AWAY[:2]] * stages

    def plan(budget):
        return schedule_within_room(costs, stored, 8, lambda fewer: get_policy("optimal")(fewer, budget))

    with pytest.raises(BudgetError) as found:
        plan(6)
    assert simulate(plan(found.value.smallest), costs).peak <= found.value.smallest
