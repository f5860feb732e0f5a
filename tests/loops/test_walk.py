"""The way back from checkpoints: a compiled program runs the steps that the referee counts, and no more."""

from __future__ import annotations

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.planning.loop_referee import offline_starts, online_starts, steps_run
from ckptgrad.target.hlo.counts import product_flops
from ckptgrad.target.hlo.text import read_module
from tests.support.loop_plans import with_checkpoints

CALLS = collections.Counter()


def counted(i):
    """The next number, known once the host has counted the step."""

    def count(i):
        CALLS["steps"] += 1
        return np.asarray(i + 1, np.int32)

    return jax.pure_callback(count, jax.ShapeDtypeStruct((), np.int32), i)


def step(c):
    """The state depends on the count, or no compiler would keep it."""
    i = counted(c[0])
    return i, jnp.sin(c[1]) + 1e-30 * i


def by_scan(x, n, length):
    return lax.scan(lambda c, _: (step(c), None), (0, x), None, length=length)[0][1]


def by_while(x, n, length):
    return lax.while_loop(lambda c: c[0] < n, step, (0, x))[1]


CASES = [(1, 1, 5), (2, 1, 9), (3, 1, 20), (3, 2, 21), (4, 3, 40), (2, 4, 33), (8, 5, 37), (40, 1, 12)]


@pytest.mark.parametrize(("slots", "group", "length"), CASES)
@pytest.mark.parametrize("known", [True, False])
def test_a_compiled_program_runs_the_steps_that_the_referee_counts(slots, group, length, known):
    groups = -(-length // group)
    slots = min(slots, groups) if known else slots
    with with_checkpoints(slots, group) as plans:
        gradient = jax.jit(cg.grad(functools.partial(by_scan if known else by_while, length=length)))
        CALLS.clear()
        ours = gradient(jnp.float32(0.3), length)
        jax.block_until_ready(ours)
        jax.effects_barrier()
    starts = (offline_starts if known else online_starts)(groups, slots)
    replay = plans[0].replay
    assert CALLS["steps"] == steps_run(length, slots, group, starts, bool(replay.private or replay.next_reads))
    theirs = jax.grad(lambda x: lax.fori_loop(0, length, lambda _, c: jnp.sin(c), x))(jnp.float32(0.3))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(("slots", "group", "length"), CASES)
def test_a_compiled_program_states_the_steps_that_it_runs(slots, group, length):
    """Though how often its loops turn is known only when it runs."""
    groups = -(-length // group)
    slots = min(slots, groups)

    def loss(w, x):
        return lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=length)[0].sum()

    with with_checkpoints(slots, group) as plans:
        compiled = jax.jit(cg.grad(loss)).lower(jnp.ones((4, 4)), jnp.ones((2, 4))).compile()
    replay = plans[0].replay
    forwards = steps_run(length, slots, group, offline_starts(groups, slots), bool(replay.private or replay.next_reads))
    # A forward has one product, a backward two.
    assert product_flops(read_module(compiled.as_text())) == (forwards + 2 * length) * 2 * 2 * 4 * 4
