"""Stacks that are written and read one entry at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.loops import stacks

STACK = np.arange(6.0, dtype=np.float32).reshape(3, 2)


def test_room_for_values_of_every_kind():
    for value in (1.5, jnp.ones((2, 3), jnp.bfloat16), jax.random.key(0)):
        room = stacks.stack_like(value, 4)
        assert room.shape == (4, *jnp.shape(value))
        assert room.dtype == jnp.asarray(value).dtype


def test_types_and_zeros():
    aval = jax.typeof(jnp.ones((2, 3), jnp.bfloat16))
    assert stacks.stacked(aval, 5).str_short() == "bfloat16[5,2,3]"
    zeros = stacks.zeros_stack(aval, 5)
    assert (zeros.shape, zeros.dtype, float(jnp.abs(zeros).sum())) == ((5, 2, 3), jnp.bfloat16, 0)


def test_an_entry_is_read_and_replaced():
    np.testing.assert_array_equal(stacks.take(STACK, 1), [2, 3])
    np.testing.assert_array_equal(stacks.put(STACK, jnp.float32([8, 9]), 2), [[0, 1], [2, 3], [8, 9]])
    first, second = stacks.put_each([STACK, STACK[:, 0]], [jnp.zeros(2), 7.0], jnp.int32(0))
    np.testing.assert_array_equal(first, [[0, 0], [2, 3], [4, 5]])
    np.testing.assert_array_equal(second, [7, 2, 4])
    np.testing.assert_array_equal(stacks.take_each([first, second], 1)[1], 2)


def test_indices_are_not_counted_from_the_end():
    """Checks for that would cost in every step: indices are places in a loop, never negative."""
    jaxpr = jax.make_jaxpr(lambda s, i: stacks.put(s, stacks.take(s, i), i))(STACK, 1)
    assert {eqn.primitive.name for eqn in jaxpr.eqns}.isdisjoint({"select_n", "lt", "add"})


@pytest.mark.parametrize(("run", "digits"), [(stacks.up_to, 345), (stacks.down_from, 543)])
def test_directions(run, digits):
    ends = (3, 6) if run is stacks.up_to else (6, 3)
    assert run(*ends, lambda i, state: 10 * state + i, jnp.int32(0)) == digits
    assert run(4, 4, lambda i, state: 10 * state + i, jnp.int32(0)) == 0


def test_a_stack_is_written_in_place():
    """XLA keeps one copy of a stack that a loop writes."""
    big = jnp.ones((64, 1024))

    def fill(stack):
        return lax.fori_loop(0, 64, lambda i, s: stacks.put(s, stacks.take(s, i) * 2, i), stack)

    memory = jax.jit(fill, donate_argnums=0).lower(big).compile().memory_analysis()
    assert memory.temp_size_in_bytes < big.nbytes / 4
