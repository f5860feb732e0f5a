"""Reshapes, gathers, scatters and slices of which an axis is cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.chunks import assert_as_whole, found_for

X = np.random.default_rng(0).normal(size=(4, 3, 2))
ROWS = np.array([2, 0, 1, 1])

# The function, the axis of the first argument, and whether it may be cut.
CASES = {
    "merged": (lambda x: x.reshape(12, 2), 0, True),
    "merged behind": (lambda x: x.reshape(12, 2), 1, False),
    "the last two": (lambda x: x.reshape(4, 6), 1, True),
    "split": (lambda x: x.reshape(12, 2).reshape(4, 3, 2), 0, True),
    "split otherwise": (lambda x: x.reshape(12, 2).reshape(6, 2, 2), 0, False),
    "split in fewer": (lambda x: x.reshape(2, 2, 3, 2), 0, False),
    "ones": (lambda x: x.reshape(1, 4, 1, 3, 2), 0, True),
    "flat": (lambda x: x.reshape(24), 0, True),
    "order": (lambda x: jax.lax.reshape(x, (24,), (1, 0, 2)), 0, False),
    "transposed and merged": (lambda x: x.swapaxes(0, 1).reshape(12, 2), 1, True),
    "rows of a table": (lambda x: x[:, ROWS], 0, True),
    "rows along the cut": (lambda x: x[ROWS], 0, False),
    "window": (lambda x: x[ROWS], 2, True),
    "a row for each": (lambda x: jax.vmap(lambda row, i: row[i])(x, ROWS), 0, True),
    "slice": (lambda x: x[:, 1:], 0, True),
    "slice of the cut": (lambda x: x[1:], 0, False),
    "stretched": (lambda x: jnp.broadcast_to(x[:, None], (4, 5, 3, 2)), 0, True),
    "set in each row": (lambda x: x.at[jnp.arange(4), ROWS].set(2.0), 0, True),
    "added in each row, some twice": (
        lambda x: x.at[jnp.arange(4)[:, None], ROWS[:, None] + jnp.array([0, 0])].add(x[:, :2]),
        0,
        True,
    ),
    "set in one row, some twice": (
        lambda x: x.at[jnp.arange(4)[:, None], ROWS[:, None] + jnp.array([0, 0])].set(x[:, :2]),
        0,
        True,
    ),
    "the largest in each row, some outside": (lambda x: x.at[jnp.arange(4), ROWS * 2 - 1].max(x[:, 1] * 2), 0, True),
    "multiplied in each row": (lambda x: x.at[jnp.arange(4), ROWS].multiply(3.0), 0, True),
    "a window of each row": (lambda x: x.at[jnp.arange(4), ROWS].add(x[:, 0]), 2, True),
    "places of each row": (lambda x: x.at[jnp.arange(4), ROWS].add(x[:, 0]), 1, False),
    "mapped": (lambda x: jax.vmap(lambda row, i: row.at[i].min(row[0]))(x, ROWS), 0, True),
    "set in any row": (lambda x: x.at[ROWS].set(x[::-1]), 0, False),
    "the next row": (lambda x: x.at[(jnp.arange(4) + 1) % 4, ROWS].add(x[:, 0]), 0, False),
    "of fewer rows": (lambda x: x.at[jnp.arange(3), ROWS[:3]].add(x[:3, 0]), 0, False),
    "written": (lambda x: jax.lax.dynamic_update_slice(x, x[:, :1] * 2, (0, 1, 0)), 0, True),
}


@pytest.mark.parametrize("name", CASES)
def test_cut(name):
    fun, axis, expected = CASES[name]
    with jax.enable_x64():
        found = found_for(fun, (jnp.asarray(X),), {0: axis})
        assert (found is not None) == expected
        if found is not None:
            assert_as_whole(found, fun, (jnp.asarray(X),))


def test_a_table_is_read_whole_and_indices_are_cut():
    fun = lambda table, tokens: table[tokens] * 2
    with jax.enable_x64():
        args = jnp.asarray(X[:, 0]), jnp.array([[0, 3, 1], [2, 2, 0]])
        found = found_for(fun, args, {1: 0})
        assert found is not None
        assert_as_whole(found, fun, args)
        assert found_for(fun, args, {0: 0}) is None
