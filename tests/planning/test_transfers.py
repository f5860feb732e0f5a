"""Boundaries that do not fit are sent away: within the budget, by the referee, and never slower than without tiers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.bench.h_revolve import h_revolve
from ckptgrad.errors import BudgetError
from ckptgrad.planning import (
    ChainCosts,
    Fetch,
    Offload,
    SaveOption,
    Schedule,
    StageCost,
    get_policy,
    simulate,
)
from ckptgrad.planning.bound import least_makespan
from ckptgrad.planning.makespan import Rates, simulate_makespan
from ckptgrad.planning.transfers import Room, moving_bytes, tiered_schedule, with_transfers

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


def test_what_is_on_its_way_is_the_largest_boundary_that_is_sent_twice():
    sizes = [5, 1, 3, 2, 7]
    costs = ChainCosts(tuple(StageCost((SaveOption("all", 1, True, False, 1.0, 1.0),), b, b, 1.0) for b in sizes))
    actions = Schedule.parse(["F0", "F1", ">1", "F2", ">3"], "mine")
    assert moving_bytes(costs, actions) == 2 * costs.boundary_bytes(1) == 10
    assert moving_bytes(costs, Schedule.parse(["F0", "F1", "F2"], "mine")) == 0


@pytest.mark.parametrize("budget", [12, 16, 24])
def test_within_a_budget_there_is_room_for_what_is_on_its_way(budget):
    schedule = tiered_schedule(CHAIN, budget, [Room(10**6, Rates(1e9, 1e9))], OPTIMAL)
    assert moving_bytes(CHAIN, schedule) == 2
    assert simulate(schedule, CHAIN).peak + moving_bytes(CHAIN, schedule) <= budget


def test_of_what_a_budget_leaves_no_more_is_taken_for_what_is_on_its_way():
    schedule = Schedule.parse(["F0", "F1", ">1"], "mine")
    assert [moving_bytes(CHAIN, schedule, 10, budget) for budget in (None, 20, 11, 10, 9)] == [2, 2, 1, 0, 0]


def test_a_budget_with_no_room_for_what_is_on_its_way_is_used_all_the_same():
    """At exactly the bytes of a schedule that sends one boundary at a time, and waits for it."""
    costs = ChainCosts.uniform(13, **SIZES)
    rates = Rates(10.0 * SIZE, 10.0 * SIZE)
    schedule = tiered_schedule(costs, 6 * SIZE, [Room(3 * SIZE, rates)], OPTIMAL)
    assert schedule.sent
    assert simulate(schedule, costs).peak <= 6 * SIZE
    alone = simulate(OPTIMAL(costs, 6 * SIZE), costs).time
    assert simulate_makespan(costs, schedule, [rates], 6 * SIZE).seconds < alone


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


def test_a_small_tier_is_filled_and_saves_time():
    """It has no room for all that the device has none for: some runs again."""
    costs = ChainCosts.uniform(19, **SIZES)
    rooms = [Room(10 * SIZE, Rates(20.0 * SIZE, 20.0 * SIZE))]
    schedule = tiered_schedule(costs, 8 * SIZE, rooms, OPTIMAL)
    assert simulate(schedule, costs).peak <= 8 * SIZE
    assert 0 < schedule.sent <= 10
    assert simulate(schedule, costs).recomputations > 0
    alone = simulate(OPTIMAL(costs, 8 * SIZE), costs).time
    assert simulate_makespan(costs, schedule, [rooms[0].rates], 8 * SIZE).seconds < alone


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


# Bytes of everything in a chain of equal stages: plans may take a boundary for a part of its bytes.
SIZE = 16
SIZES = {"boundary_bytes": SIZE, "residual_bytes": SIZE, "cotangent_bytes": SIZE}
RATES = st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0])


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(3, 20), st.integers(1, 4), st.integers(0, 8), st.sampled_from([1.0, 2.0]), RATES, RATES)
def test_no_h_revolve_schedule_of_the_same_slots_is_faster_and_none_beats_the_bound(steps, memory, disk, backward, put, get):
    costs = ChainCosts.uniform(steps, **SIZES, backward_time=backward)
    synchronous, seconds = h_revolve(steps, memory, disk, backward, put, get)
    # Besides its slots, a boundary on its way out and one on its way in, which H-Revolve does not count.
    budget, rates = simulate(synchronous, costs).peak + 2 * SIZE, Rates(SIZE / put, SIZE / get)
    rooms = [Room(disk * SIZE, rates)] if disk else []
    ours = simulate_makespan(costs, tiered_schedule(costs, budget, rooms, OPTIMAL), [rates], budget).seconds
    bound = least_makespan(costs, budget, [rates])
    overlapped = simulate_makespan(costs, synchronous, [rates], budget).seconds
    assert bound <= ours <= min(seconds, overlapped) * (1 + 1e-9)
