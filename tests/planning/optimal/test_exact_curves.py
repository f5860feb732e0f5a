"""Whole curves of seconds against bytes, and bounds that no schedule beats."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, get_policy, minimum_peak
from ckptgrad.planning.bound import least_seconds
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.optimal.exhaustive_search import searchable
from ckptgrad.planning.optimal.grouped import best_groups
from ckptgrad.planning.random_chains import random_chain, simple_chain
from ckptgrad.planning.referee import simulate
from tests.support.chains import chains

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def times_by_slots(optimum: Optimum, most: int) -> np.ndarray:
    """The whole chain's seconds for 0 to `most` bytes, by the table of slots of one byte."""
    row = int(optimum.row(0, len(optimum.costs) - 1, True))
    return optimum.times(1, most)[row]


@relaxed
@given(chains())
def test_a_curve_is_the_table_of_single_bytes(costs):
    optimum = Optimum(costs)
    curve = optimum.curve
    assert curve is not None
    table = times_by_slots(optimum, int(curve.bytes[-1]) + 5 - costs.held_bytes)
    read = [curve.within(m + costs.held_bytes) for m in range(len(table))]
    np.testing.assert_allclose(read, table, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_every_point_of_a_curve_is_a_schedule(seed):
    costs = random_chain(10, 3, seed, largest=10**6)
    optimum = Optimum(costs)
    curve = optimum.curve
    assert curve is not None
    assert curve.bytes[0] == optimum.least_bytes
    for budget, seconds in zip(curve.bytes.tolist(), curve.seconds.tolist(), strict=True):
        found = simulate(optimum.write(budget).finish("optimal"), costs)
        assert found.peak <= budget
        assert found.time == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("seed", [2, 3, 9, 20])
def test_more_memory_is_never_slower(n, seed):
    """Over every byte of a small chain's budgets, whether or not all its schedules are searched."""
    costs = random_chain(n, 2, seed)
    assert searchable(costs) == (n == 5)
    largest = simulate(get_policy("store_all")(costs, None), costs).peak
    times = [simulate(get_policy("optimal")(costs, b), costs).time for b in range(minimum_peak(costs)[0], largest + 1)]
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(times))


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


@pytest.mark.parametrize("residual", [1, 3])
@pytest.mark.parametrize("budget", [30, 60, 150, 400])
def test_groups_of_equal_stages_are_near_the_table(budget, residual):
    """Where the table can follow: within 10 % at the tightest, 1 % from 150 bytes on."""
    costs = ChainCosts.uniform(200, residual_bytes=residual)
    schedule = best_groups(costs, budget).finish("groups")
    found = simulate(schedule, costs)
    assert found.peak <= budget
    best = simulate(get_policy("optimal")(costs, budget), costs).time
    assert found.time <= best * (1.10 if budget < 150 else 1.01)


@pytest.mark.slow
def test_a_hundred_thousand_stages():
    costs = ChainCosts.uniform(100_000, residual_bytes=3)
    schedule = get_policy("optimal")(costs, 400)
    found = simulate(schedule, costs)
    assert found.peak <= 400
    assert found.time <= simulate(get_policy("revolve")(costs, 400), costs).time


def test_a_long_chain_below_its_least():
    costs = ChainCosts.uniform(5000)
    with pytest.raises(BudgetError) as refused:
        get_policy("optimal")(costs, 3)
    smallest = refused.value.smallest
    assert simulate(get_policy("optimal")(costs, smallest), costs).peak <= smallest
