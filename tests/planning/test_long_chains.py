"""Chains of thousands of cheap operations are planned in seconds, and what is written at once is what was written singly."""

from __future__ import annotations

import time

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.cut import MAX_LIGHT_STAGES
from ckptgrad.planning import Forward, Free
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.writer import ScheduleWriter


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


@pytest.mark.parametrize("held", [None, 2])
def test_a_sweep_is_what_its_actions_are(held):
    """Where a boundary on its way is held already, too."""
    costs = random_chain(7, 2, 3)
    one, many = ScheduleWriter(costs), ScheduleWriter(costs)
    for writer in (one, many):
        writer.replay([] if held is None else [Forward(i) for i in range(held)])
        writer.replay([] if held is None else [Free(i) for i in range(1, held)])
    for first, end in ((0, 5), (5, 7)):
        one.sweep(first, end)
        for stage in range(first, end):
            many.replay([Forward(stage), Free(stage)] if stage > first else [Forward(stage)])
    assert one.actions == many.actions
    assert (one.live, one.peak, one.peak_stage) == (many.live, many.peak, many.peak_stage)
    assert one.time == pytest.approx(many.time, rel=1e-12)
