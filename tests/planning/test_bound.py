"""Bounds on seconds that no schedule beats."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptgrad.planning import get_policy, minimum_peak
from ckptgrad.planning.bound import least_seconds
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.random_chains import random_chain, simple_chain
from ckptgrad.planning.referee import simulate
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
