"""Whole curves of seconds against bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ckptgrad.planning import get_policy, minimum_peak
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.optimal.exhaustive_search import searchable
from ckptgrad.planning.random_chains import random_chain
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
