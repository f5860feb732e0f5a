"""Revolve's forwards are those of the closed form, and its peaks those of the referee."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings

from ckptgrad.binomial import extra_forwards
from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, Forward
from ckptgrad.planning.policies.revolve import revolve, with_checkpoints
from ckptgrad.planning.random_chains import mixed_units, random_chain
from ckptgrad.planning.referee import simulate
from tests.cases.binomial import LISTED
from tests.support.chains import chains

WORKING_SET = 2


@cache
def least_extra_forwards(stages: int, checkpoints: int) -> int:
    if stages == 1:
        return 0
    if checkpoints == 1:
        return stages * (stages - 1) // 2
    return min(
        at + least_extra_forwards(stages - at, checkpoints - 1) + least_extra_forwards(at, checkpoints)
        for at in range(1, stages)
    )


@pytest.mark.parametrize(("stages", "checkpoints", "extra"), LISTED)
def test_schedule_has_the_listed_forwards(stages, checkpoints, extra):
    schedule = with_checkpoints(ChainCosts.uniform(stages), checkpoints).finish("revolve")
    keeping = sum(isinstance(action, Forward) and action.keep is not None for action in schedule)
    assert (keeping, schedule.forwards - keeping) == (stages, extra)


@pytest.mark.parametrize("checkpoints", range(1, 9))
def test_schedule_is_optimal_in_forwards_and_holds_no_more_checkpoints(checkpoints):
    for stages in range(1, 41):
        costs = mixed_units(stages, residual_bytes=0)
        schedule = with_checkpoints(costs, checkpoints).finish("revolve")
        assert schedule.forwards - stages == least_extra_forwards(stages, min(checkpoints, stages))
        assert simulate(schedule, costs).peak <= checkpoints + WORKING_SET


@pytest.mark.parametrize("n", [1, 2, 8, 13])
def test_a_budget_is_used_for_as_many_checkpoints_as_it_holds(n):
    for costs in (mixed_units(n), random_chain(n, 2, seed=n)):
        written = [with_checkpoints(costs, c) for c in range(1, n + 1)]
        schedules = [(w.peak, w.finish("revolve").forwards) for w in written]
        for budget in range(min(peak for peak, _ in schedules), max(peak for peak, _ in schedules) + 2):
            found = revolve(costs, budget)
            assert simulate(found, costs).peak <= budget
            assert found.forwards == min(forwards for peak, forwards in schedules if peak <= budget)


@pytest.mark.parametrize(("n", "checkpoints"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 4), (9, 5), (16, 5), (17, 6)])
def test_without_a_budget_checkpoints_grow_with_the_logarithm(n, checkpoints):
    costs = ChainCosts.uniform(n)
    assert revolve(costs).actions == with_checkpoints(costs, checkpoints).finish("revolve").actions


def test_a_hundred_thousand_stages():
    writer = with_checkpoints(ChainCosts.uniform(100_000), 40)
    assert writer.time == 2 * 100_000 + extra_forwards(100_000, 40)


@settings(max_examples=40, deadline=None)
@given(chains())
def test_the_smallest_peak_in_closed_form_is_that_of_a_written_schedule(costs):
    """Of one checkpoint, or of all boundaries held; also which stage sets it."""
    written = [with_checkpoints(costs, count) for count in (1, len(costs))]
    with pytest.raises(BudgetError) as refused:
        revolve(costs, -1)
    smallest = min(writer.peak for writer in written)
    assert refused.value.smallest == smallest
    assert refused.value.stage in [writer.peak_stage or 0 for writer in written if writer.peak == smallest]


def test_no_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"^checkpoints=0 is too small"):
        with_checkpoints(ChainCosts.uniform(3), 0)
