"""The search over all schedules of short chains, nested or not, and its bounds."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts, get_policy, minimum_peak
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.optimal import exhaustive_search
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.optimal.exhaustive_search import least_conceivable
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate


def optimal_time(costs: ChainCosts, budget: int | None) -> float:
    return simulate(get_policy("optimal")(costs, budget), costs).time


def largest_peak(costs: ChainCosts) -> int:
    return simulate(get_policy("store_all")(costs, None), costs).peak


@pytest.mark.parametrize("options", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_peak_is_below_what_is_conceivable(n, options):
    """And for single stages the bound is the smallest peak."""
    for seed in range(60):
        costs = random_chain(n, options, seed)
        bound, smallest = least_conceivable(costs), minimum_peak(costs)[0]
        assert bound <= smallest, seed
        assert bound == smallest or n > 1, seed


@pytest.mark.parametrize("n", [2, 3])
def test_the_bound_of_the_search_is_never_above_the_fastest_schedule(n):
    for seed in range(12):
        costs = random_chain(n, 2, seed)
        start = exhaustive_search.State((True,) + (False,) * n, (None,) * n, n)
        smallest, largest = minimum_peak(costs)[0], largest_peak(costs)
        for budget in range(smallest, largest + 1, max(1, (largest - smallest) // 3)):
            assert exhaustive_search.Bound(costs, budget)(start) <= least_time(costs, budget) * (1 + 1e-9), (seed, budget)


# Seeds on which no nested schedule has the smallest peak.
@pytest.mark.parametrize(("n", "seed"), [(3, 19), (4, 223), (3, 727), (2, 99)])
def test_smaller_schedules_that_are_not_nested_are_found(n, seed):
    costs = random_chain(n, 2, seed)
    smallest = minimum_peak(costs)[0]
    assert smallest < Optimum(costs).least_bytes
    assert optimal_time(costs, smallest) == pytest.approx(least_time(costs, smallest))
    assert least_time(costs, smallest - 1) is None
