"""Points of the frontier are plans that the referee accepts, on chains of any length."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts
from ckptgrad.planning.frontier import frontier_points, points_within, policy_points
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate


@pytest.mark.parametrize("seed", range(4))
def test_random_chains(seed):
    """Short ones, where schedules that are not nested are searched too."""
    costs = random_chain(5, 2, seed)
    for point in frontier_points(costs):
        found = simulate(get_policy("optimal")(costs, point.peak_bytes), costs)
        assert found.time == pytest.approx(point.seconds)
    assert {p.policy for p in policy_points(costs)} >= {"store_all", "sqrt", "every 2"}


def test_a_chain_beyond_tables():
    points = frontier_points(ChainCosts.uniform(4500))
    assert len(points) > 5
    assert points[0].peak_bytes < 100


@pytest.mark.parametrize("name", ["rotor", "optimal", "sqrt"])
def test_plans_of_a_policy_at_a_few_budgets_are_within_them_and_not_better_than_optimal_ones(name):
    costs = random_chain(8, 2, 0)
    curve = frontier_points(costs)
    found = points_within(name, get_policy(name), costs)
    assert len({(p.peak_bytes, p.seconds) for p in found}) == len(found) > 0
    for point in found:
        assert point.policy.startswith(name)
        assert point.seconds >= min(p.seconds for p in curve if p.peak_bytes <= point.peak_bytes) * (1 - 1e-9)
