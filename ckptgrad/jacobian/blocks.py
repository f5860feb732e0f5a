"""Jacobians of pytrees: from unit vectors, by rows or columns, to a tree of blocks as JAX returns it.

The block of an output leaf and an input leaf has the shape (shape of the output leaf + shape of the input leaf).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.graph.evaluate import like_aval


def basis(tree: Any) -> Any:
    """All unit vectors of a tree: each leaf with a leading axis over all entries of the tree."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = [np.size(x) for x in leaves]
    count, start, stacked = sum(sizes), 0, []
    for x, n in zip(leaves, sizes, strict=True):
        dtype = getattr(x, "dtype", None) or jnp.result_type(x)
        stacked.append(jnp.eye(count, n, -start, dtype).reshape(count, *np.shape(x)))
        start += n
    return jax.tree.unflatten(structure, stacked)


def split_basis(stacked: Any, tree: Any) -> list[Any]:
    """An array whose leading axis is over all entries of a tree: for each leaf its part, of the shape (leaf + rest)."""
    shapes = [np.shape(x) for x in jax.tree.leaves(tree)]
    ends = np.cumsum([math.prod(s) for s in shapes]).tolist()
    pieces = zip([0, *ends], ends, shapes, strict=False)
    return [stacked[a:b].reshape(*shape, *stacked.shape[1:]) for a, b, shape in pieces]


def last_axes_first(array: Any, count: int) -> Any:
    """The last `count` axes of an array moved to the front."""
    return jnp.moveaxis(array, tuple(range(array.ndim - count, array.ndim)), tuple(range(count)))


def assemble(
    out: Any,
    primals: tuple[Any, ...],
    combine: Callable[[tuple[Any, ...]], Any],
    block: Callable[[int, int], Any],
    of_output: bool = False,
) -> Any:
    """The blocks of a Jacobian as a tree of the outputs, of trees of the arguments.

    Args:
        out, primals: the output, and the differentiated arguments.
        combine: from one tree per differentiated argument to what stands for an output leaf.
        block: the block of an output leaf and an input leaf, given by their positions; None for zeros.
        of_output: whether blocks have the types of output leaves, as from `jax.jacfwd`; else those of input leaves.
    """
    out_leaves, out_tree = jax.tree.flatten(out)
    in_leaves, in_tree = jax.tree.flatten(primals)

    def filled(o: int, i: int) -> Any:
        y, x = jax.typeof(out_leaves[o]), jax.typeof(in_leaves[i])
        aval = y if of_output else x
        # As in JAX there is no float0 inside a Jacobian.
        part = block(o, i) if dtypes.issubdtype(x.dtype, jnp.inexact) else None
        return like_aval(jnp.zeros(y.shape + x.shape, aval.dtype) if part is None else part, aval)

    rows = [[filled(o, i) for i in range(len(in_leaves))] for o in range(len(out_leaves))]
    return jax.tree.unflatten(out_tree, [combine(jax.tree.unflatten(in_tree, row)) for row in rows])
