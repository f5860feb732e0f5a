"""Reductions over axes: sum, product, maximum, minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.value_types import explicit_sharding
from ckptgrad.rules.decorators import bprop, const, linear
from ckptgrad.rules.products import transposed


def spread(reduced: Any, aval: Any, axes: tuple[int, ...]) -> Any:
    """A reduced value, again at every place of the aval that was reduced into it."""
    kept = [i for i in range(len(aval.shape)) if i not in axes]
    return lax.broadcast_in_dim(reduced, aval.shape, kept, out_sharding=explicit_sharding(aval))


def written_once(xs: Sequence[Any]) -> list[Any]:
    """The same arrays, read from memory by all that compare them.

    A compiler that fuses what makes an array into several loops may round it otherwise in each.
    """
    return lax.optimization_barrier(list(xs))


_FOLDED = axes.folded(lambda op: op.params["axes"])


@linear(p.reduce_sum_p, cost="reduction", axes=axes.folded(lambda op: op.params["axes"], summed=True))
def reduce_sum(op: Application, g: Array) -> Sequence[Entry]:
    (x,) = op.in_avals
    return (lambda: spread(g, x, op.params["axes"]),)


def _reduce_extremum(op: Application, g: Array) -> Sequence[Entry]:
    """Every place that attains the extremum gets an equal share.

    The extremum of the x that is there: none of an x that was computed again, and rounded otherwise, may equal the result.
    """
    (aval,), axes = op.in_avals, op.params["axes"]

    def entry() -> Array:
        (x,) = written_once(op.inputs)
        (extremum,) = apply(op.op, [x])
        chosen = lax.convert_element_type(lax.eq(x, spread(extremum, aval, axes)), g.dtype)
        share = lax.div(g, lax.reduce_sum(chosen, axes))
        return lax.mul(spread(share, aval, axes), chosen)

    return (entry,)


bprop(p.reduce_max_p, cost="reduction", axes=_FOLDED)(_reduce_extremum)
bprop(p.reduce_min_p, cost="reduction", axes=_FOLDED)(_reduce_extremum)


@bprop(p.reduce_prod_p, cost="reduction", axes=_FOLDED)
def reduce_prod(op: Application, g: Array) -> Sequence[Entry]:
    """Back along a balanced tree of products: no division, so zeros need no special case."""
    (x,), axes = op.inputs, op.params["axes"]
    kept = [i for i in range(x.ndim) if i not in axes]
    order = [*axes, *kept]

    def entry() -> Array:
        count = math.prod(x.shape[i] for i in axes)
        flat = lax.reshape(transposed(x, order), [count, *(x.shape[i] for i in kept)])
        moved = lax.reshape(tree_product_pull(flat, g), [x.shape[i] for i in order])
        return transposed(moved, sorted(range(x.ndim), key=order.__getitem__))

    return (entry,)


def tree_product_pull(x: Any, g: Any) -> Any:
    """The cotangent of x for its product over axis 0, multiplied by halves."""
    if x.shape[0] == 0:
        return x
    pairs = []
    while (n := x.shape[0]) > 1:
        half = (n + 1) // 2
        left, right = lax.slice_in_dim(x, 0, half), lax.slice_in_dim(x, half, n)
        if n % 2:
            right = lax.pad(right, const(x, 1), [(0, 1, 0)] + [(0, 0, 0)] * (x.ndim - 1))
        pairs.append((n, left, right))
        x = lax.mul(left, right)
    ct = lax.expand_dims(g, (0,))
    for n, left, right in reversed(pairs):
        to_right = lax.slice_in_dim(lax.mul(left, ct), 0, n // 2)
        ct = lax.concatenate([lax.mul(ct, right), to_right], 0)
    return ct
