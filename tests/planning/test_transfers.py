"""Boundaries that do not fit are sent away: within the budget, by the referee, and never slower than without tiers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, Fetch, Offload, SaveOption, StageCost, get_policy, simulate
from ckptgrad.planning.makespan import Rates, simulate_makespan
from ckptgrad.planning.transfers import Room, tiered_schedule, with_transfers

STAGE = StageCost(
    (SaveOption("all", 3, True, False, 1.0, 1.0), SaveOption("input", 0, True, False, 1.0, 2.0, 0, 3)), 1, 1, 1.0
)
CHAIN = ChainCosts((STAGE,) * 24, 0, 0, 1)
OPTIMAL = get_policy("optimal")


@pytest.mark.parametrize("budget", [12, 16, 24, 40])
@pytest.mark.parametrize("rate", [0.2, 1.0, 1e9])
def test_the_budget_is_kept_and_no_plan_without_tiers_is_faster(budget, rate):
    rooms = [Room(10**6, Rates(rate, rate))]
    schedule = tiered_schedule(CHAIN, budget, rooms, OPTIMAL)
    assert simulate(schedule, CHAIN).peak <= budget
    seconds = simulate_makespan(CHAIN, schedule, [room.rates for room in rooms], budget).seconds
    assert seconds <= simulate(OPTIMAL(CHAIN, budget), CHAIN).time
    assert seconds >= 2 * len(CHAIN)


def test_a_fast_tier_saves_the_repetitions():
    schedule = tiered_schedule(CHAIN, 12, [Room(10**6, Rates(1e9, 1e9))], OPTIMAL)
    assert simulate(schedule, CHAIN).recomputations == 0
    assert simulate(OPTIMAL(CHAIN, 12), CHAIN).recomputations > len(CHAIN)


def test_below_the_smallest_plan_of_all_it_is_refused():
    with pytest.raises(BudgetError):
        tiered_schedule(CHAIN, 3, [Room(10**6, Rates(1.0, 1.0))], OPTIMAL)


def test_the_first_tier_is_filled_first_and_none_beyond_its_bytes():
    everything = get_policy("recompute_all")(CHAIN, None)
    small, large = Room(3, Rates(1.0, 1.0)), Room(10**6, Rates(1.0, 1.0))
    schedule = with_transfers(CHAIN, everything, 12, [small, large])
    on, most = [0, 0], [0, 0]
    tier_of = {}
    for action in schedule:
        if isinstance(action, Offload) and action.boundary not in tier_of:
            tier_of[action.boundary] = action.tier
            on[action.tier] += 1
            most[action.tier] = max(most[action.tier], on[action.tier])
        elif type(action).__name__ == "Free" and action.boundary in tier_of:
            on[tier_of.pop(action.boundary)] -= 1
    assert most[0] == 3
    assert most[1] > 0
    assert with_transfers(CHAIN, everything, 12, [small]) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_chain_the_referee_agrees(data):
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.booleans()), min_size=2, max_size=9))
    stages = [
        StageCost((SaveOption("a", r, True, reads, 1.0, 1.0), SaveOption("b", 0, True, False, 1.0, 2.0)), b, b, 1.0)
        for b, r, reads in sizes
    ]
    costs = ChainCosts(tuple(stages))
    schedule = OPTIMAL(costs, None)
    peak = simulate(schedule, costs).peak
    budget = data.draw(st.integers(peak // 2, peak))
    sent = with_transfers(costs, schedule, budget, [Room(10**6, Rates(1.0, 1.0))])
    if sent is not None:
        assert simulate(sent, costs).peak <= budget
        assert [a for a in sent if not isinstance(a, Offload | Fetch)] == [*schedule]
