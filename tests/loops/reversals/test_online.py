"""Where checkpoints are placed while a loop of unknown length runs."""

from __future__ import annotations

import jax.numpy as jnp
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from ckptgrad.binomial import extra_forwards
from ckptgrad.loops.reversals.online import Placed
from ckptgrad.planning.loop_referee import online_starts, steps_run
from tests.support.compare import quick


@given(st.integers(1, 120), st.integers(2, 12))
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


@given(st.integers(1, 400), st.integers(2, 40))
def test_few_more_steps_run_than_with_the_length_known(length, slots):
    """What is proved is that no step runs more often than repetitions require; the total is measured against the optimum."""
    total = steps_run(length, slots, 1, online_starts(length, slots))
    best = length + 1 + extra_forwards(length, slots)
    assert best <= total <= 1.5 * best
