"""Chains of thousands of cheap operations are planned in seconds."""

from __future__ import annotations

import time

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.cut import MAX_LIGHT_STAGES


def sines(x):
    for _ in range(5000):
        x = jnp.sin(x)
    return jnp.sum(x)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["min", "0.2x"])
def test_five_thousand_operations_are_planned_in_three_seconds(budget):
    """Of this process's own time, once numba has compiled the recurrences."""
    x = jnp.ones(1000)
    cg.plan(sines, x, budget=budget)
    start = time.process_time()
    plan = cg.plan(sines, x, budget=budget)
    assert time.process_time() - start < 3
    assert plan.peak_bytes <= (plan.budget or 0)
    assert len(plan.costs) <= MAX_LIGHT_STAGES
