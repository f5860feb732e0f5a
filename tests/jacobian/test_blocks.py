"""Jacobians as trees of blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.jacobian.blocks import assemble, basis, last_axes_first, split_basis

TREE = {"a": jnp.ones((2, 2)), "b": jnp.float32(3), "c": jnp.ones((0, 5)), "d": jnp.ones(1, jnp.bfloat16)}


def test_unit_vectors_of_a_tree():
    """One row per entry of the tree, each with a single one."""
    unit = basis(TREE)
    assert {name: (x.shape, x.dtype) for name, x in unit.items()} == {
        "a": ((6, 2, 2), jnp.float32),
        "b": ((6,), jnp.float32),
        "c": ((6, 0, 5), jnp.float32),
        "d": ((6, 1), jnp.bfloat16),
    }
    rows = np.concatenate([np.asarray(x, np.float32).reshape(6, -1) for x in unit.values()], 1)
    np.testing.assert_array_equal(rows, np.eye(6))


def test_an_axis_over_all_entries_is_split_by_leaves():
    parts = split_basis(jnp.arange(12.0).reshape(6, 2), TREE)
    assert [part.shape for part in parts] == [(2, 2, 2), (2,), (0, 5, 2), (1, 2)]
    np.testing.assert_array_equal(parts[0].reshape(4, 2), np.arange(8.0).reshape(4, 2))
    np.testing.assert_array_equal(parts[1], [8, 9])
    np.testing.assert_array_equal(parts[3], [[10, 11]])


def test_axes_to_the_front():
    assert last_axes_first(jnp.ones((2, 3, 4, 5)), 2).shape == (4, 5, 2, 3)
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(last_axes_first(x, 1), x.T)


def test_blocks_are_put_together_as_jax_does():
    """Missing blocks, and those of integers, are zeros, of the type of the input, or of the output."""
    out = {"y": jnp.ones(2), "n": jnp.int32(3)}
    primals = (jnp.ones(3, jnp.bfloat16), jnp.arange(2))

    def block(o, i):
        return jnp.full((2, 3), 7, jnp.bfloat16) if (o, i) == (1, 0) else None

    tree = assemble(out, primals, lambda row: row, block)
    assert [*tree] == ["n", "y"]
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree["y"]) == (((2, 3), "bfloat16"), ((2, 2), "int32"))
    np.testing.assert_array_equal(tree["y"][0], np.full((2, 3), 7))
    assert not np.any(tree["y"][1])
    assert not np.any(tree["n"][0])
    of_output = assemble(out, primals, lambda row: row, block, of_output=True)
    assert [x.dtype for x in (*of_output["y"][1:], *of_output["n"])] == [jnp.float32, jnp.int32, jnp.int32]
