"""The recurrences compiled by numba, and plans without it."""

from __future__ import annotations

import sys

import pytest

from ckptgrad.planning import get_policy, minimum_peak
from ckptgrad.planning.optimal.dynamic_programming import optimum_of
from ckptgrad.planning.optimal.numba_kernels import compiled_kernels
from ckptgrad.planning.random_chains import random_chain


@pytest.fixture
def no_numba(monkeypatch):
    compiled_kernels.cache_clear()
    optimum_of.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    yield
    compiled_kernels.cache_clear()
    optimum_of.cache_clear()


def test_without_numba_plans_are_the_same(no_numba, monkeypatch):
    costs = random_chain(45, 2, seed=7)  # More splits than are interpreted where numba is there.
    with pytest.warns(UserWarning, match=r"ckptgrad\[fast\]"):
        budget = minimum_peak(costs)[0] + 20
    assert compiled_kernels() is None
    interpreted = get_policy("optimal")(costs, budget)
    monkeypatch.undo()
    compiled_kernels.cache_clear()
    optimum_of.cache_clear()
    assert compiled_kernels() is not None
    assert get_policy("optimal")(costs, budget) == interpreted
