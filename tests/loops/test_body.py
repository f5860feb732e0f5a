"""How often steps run, against the referee; and the placement of checkpoints against its sources."""

from __future__ import annotations

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import ckptgrad as cg
from ckptgrad.loops import binomial
from ckptgrad.loops.reversals.online import Placed
from ckptgrad.planning.loop_referee import offline_starts, online_starts, steps_run
from ckptgrad.planning.policies.revolve import advance, extra_forwards
from tests.support.compare import quick
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
        found = gradient(jnp.float32(0.3), length)
        jax.block_until_ready(found)
        jax.effects_barrier()
    starts = (offline_starts if known else online_starts)(groups, slots)
    replay = plans[0].replay
    assert CALLS["steps"] == steps_run(length, slots, group, starts, bool(replay.private or replay.next_reads))
    wanted = jax.grad(lambda x: lax.fori_loop(0, length, lambda _, c: jnp.sin(c), x))(jnp.float32(0.3))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@given(st.integers(1, 400), st.integers(1, 40))
def test_with_the_length_known_no_fewer_steps_are_possible(length, slots):
    """Revolve's optimum, but that the first pass goes on from its last checkpoint to the end of the loop."""
    starts = offline_starts(length, slots)
    assert steps_run(length, slots, 1, starts) == length + extra_forwards(length, slots) + length - starts[-1]


@given(st.integers(1, 400), st.integers(2, 40))
def test_with_the_length_unknown_steps_are_few_more(length, slots):
    """No step more often than repetitions require is what is proved; the sum measured against the optimum."""
    found = steps_run(length, slots, 1, online_starts(length, slots))
    best = length + 1 + extra_forwards(length, slots)
    assert best <= found <= 1.5 * best


@given(st.integers(2, 100_000), st.integers(1, 32))
@settings(max_examples=60, deadline=None)
def test_advances_decided_in_the_program_are_those_of_revolve(steps, checkpoints):
    found = int(binomial.advance(steps, checkpoints, 32))
    assert 1 <= found < steps
    if checkpoints > 2 or steps < 60:
        assert found == advance(steps, checkpoints)


@given(st.integers(1, 120), st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_checkpoints_placed_in_the_program_are_those_of_the_referee(groups, slots):
    placed, held = quick(lambda n: lax.fori_loop(0, n, _place, (Placed.none(slots), jnp.zeros(slots, jnp.int32))))(groups)
    count = int(placed.count)
    assert placed.positions[:count].tolist() == online_starts(groups, slots)
    assert held[placed.order[:count]].tolist() == placed.positions[:count].tolist()
    assert sorted(placed.order.tolist()) == list(range(slots))


def _place(group, state):
    placed, held = state
    placed, slot = placed.with_next(group)
    return placed, held.at[slot].set(group)
