"""Points of the frontier are plans that the referee accepts, on chains of any length."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts
from ckptgrad.planning.frontier import frontier_points, policy_points
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
