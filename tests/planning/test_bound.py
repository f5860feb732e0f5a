"""Bounds on seconds that no schedule beats."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, get_policy, minimum_peak
from ckptgrad.planning.bound import least_makespan, least_seconds
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.makespan import Rates, simulate_makespan
from ckptgrad.planning.random_chains import random_chain, simple_chain
from ckptgrad.planning.referee import simulate
from ckptgrad.planning.transfers import Room, sent_at, tiered_schedule
from tests.support.chains import chains

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("make", [random_chain, simple_chain])
@pytest.mark.parametrize("seed", range(25))
def test_no_schedule_beats_the_bound(make, seed):
    costs = make(4, 2, seed)
    smallest = minimum_peak(costs)[0]
    largest = simulate(get_policy("store_all")(costs, None), costs).peak
    for budget in {smallest, (smallest + largest) // 2, largest}:
        best = least_time(costs, budget)
        assert best is not None
        assert least_seconds(costs, budget) <= best * (1 + 1e-9)


@settings(relaxed, max_examples=20)
@given(chains(5), st.floats(0, 1))
def test_the_bound_holds_for_the_optimal_policy(costs, part):
    smallest = minimum_peak(costs)[0]
    largest = simulate(get_policy("store_all")(costs, None), costs).peak
    budget = int(smallest + part * max(0, largest - smallest))
    assert least_seconds(costs, budget) <= simulate(get_policy("optimal")(costs, budget), costs).time * (1 + 1e-9)


def test_without_a_budget_the_bound_is_reached():
    costs = random_chain(5, 3, 0)
    fastest = sum(min(o.time for o in stage.options) for stage in costs.stages)
    assert least_seconds(costs, None) == pytest.approx(fastest)
    assert least_seconds(costs, 10**9) == pytest.approx(fastest)


def within_tiers(costs, part, rates):
    """A budget between the smallest plan and the one that stores all, and schedules within it with a tier."""
    optimal, rooms = get_policy("optimal"), [Room(10**9, rates)]
    smallest = minimum_peak(costs)[0]
    largest = simulate(get_policy("store_all")(costs, None), costs).peak
    budget = int(smallest + part * max(0, largest - smallest))
    return budget, [tiered_schedule(costs, budget, rooms, optimal), *sent_at(costs, budget, rooms, optimal)]


def assert_none_beats_the_bound(costs, part, rates):
    budget, schedules = within_tiers(costs, part, rates)
    bound = least_makespan(costs, budget, [rates])
    assert bound >= least_seconds(costs, budget)
    for schedule in schedules:
        assert bound <= simulate_makespan(costs, schedule, [rates], budget).seconds * (1 + 1e-9)


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("part", [0.0, 0.4, 0.8])
def test_no_plan_of_equal_stages_with_tiers_beats_the_bound(part, rate):
    costs = ChainCosts.uniform(30, residual_bytes=0, boundary_bytes=2, reads_input=True)
    assert_none_beats_the_bound(costs, part, Rates(rate, 2 * rate, 0.1))


@pytest.mark.slow
@settings(relaxed, max_examples=25, derandomize=True)
@given(chains(6), st.floats(0, 1), st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([0.0, 0.5]))
def test_no_plan_with_tiers_beats_the_bound(costs, part, rate, latency):
    assert_none_beats_the_bound(costs, part, Rates(rate, 2 * rate, latency))


def test_transfers_count_where_they_are_slow_and_not_where_they_are_fast():
    costs = ChainCosts.uniform(20, residual_bytes=0, reads_input=True)
    fast, slow = (least_makespan(costs, 8, [Rates(rate, rate)]) for rate in (1e9, 0.1))
    assert least_seconds(costs, 8) == fast == 40
    assert slow > 42
    assert least_makespan(costs, 30, [Rates(0.1, 0.1)]) == 40
