"""Scatter: set, add, subtract, multiply, maximum, minimum.

All rules read back through the gather that visits the places where the scatter wrote; updates that
the scatter dropped (out of bounds) get zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import apply
from ckptgrad.rules import shape_axes as axes
from ckptgrad.rules.decorators import bprop, const, linear
from ckptgrad.rules.reductions import written_once


def read_back(op: Application, x: Any) -> Any:
    """The values of x at the places where the scatter `op` wrote, in the shape of its updates."""
    d, updates = op.params["dimension_numbers"], op.in_avals[2]
    absent = {*d.inserted_window_dims, *d.operand_batching_dims}
    windows = iter(updates.shape[i] for i in d.update_window_dims)
    return lax.gather(
        x,
        op.inputs[1],
        lax.GatherDimensionNumbers(
            offset_dims=d.update_window_dims,
            collapsed_slice_dims=d.inserted_window_dims,
            start_index_map=d.scatter_dims_to_operand_dims,
            operand_batching_dims=d.operand_batching_dims,
            start_indices_batching_dims=d.scatter_indices_batching_dims,
        ),
        [1 if i in absent else next(windows) for i in range(x.ndim)],
        mode=op.params["mode"],
        fill_value=0,
    )


def write(op: Application, scatter: Any, x: Any, updates: Any) -> Any:
    """Scatter other updates into x at the places of the scatter `op`."""
    return scatter(
        x,
        op.inputs[1],
        updates,
        op.params["dimension_numbers"],
        indices_are_sorted=op.params["indices_are_sorted"],
        unique_indices=op.params["unique_indices"],
        mode=op.params["mode"],
    )


@linear(p.scatter_add_p, cost="heavy", axes=axes.scatter)
def scatter_add(op: Application, g: Array) -> Sequence[Entry]:
    return g, None, lambda: read_back(op, g)


@linear("scatter-sub", cost="heavy", axes=axes.scatter)
def scatter_sub(op: Application, g: Array) -> Sequence[Entry]:
    return g, None, lambda: lax.neg(read_back(op, g))


@linear(p.scatter_p, cost="heavy", axes=axes.scatter)
def scatter(op: Application, g: Array) -> Sequence[Entry]:
    """What was overwritten gets zero; of updates to the same place the one that won gets all."""
    updates = op.in_avals[2]
    if op.params["update_jaxpr"] is not None:
        reason = "what a function makes of the entries that it is applied to, as in JAX (use .at[...].get and .set)"
        raise NoDerivativeError(op.op.name, reason, op.op.source)
    if op.params["unique_indices"]:
        return (
            lambda: write(op, lax.scatter, g, lax.full(updates.shape, 0, g.dtype)),
            None,
            lambda: read_back(op, g),
        )

    # Which of several updates wins is unspecified, so find out: scatter the numbers 1, 2, ... of the
    # updates in place of their values.
    numbers = np.arange(1, math.prod(updates.shape) + 1, dtype=np.int32).reshape(updates.shape)
    winners = write(op, lax.scatter, lax.full(g.shape, 0, numbers.dtype), numbers)

    def operand() -> Array:
        return lax.select(lax.eq(winners, const(winners, 0)), g, lax.full_like(g, 0))

    def update() -> Array:
        won = lax.eq(read_back(op, winners), numbers)
        return lax.select(won, read_back(op, g), lax.full(updates.shape, 0, g.dtype))

    return operand, None, update


@bprop(p.scatter_mul_p, cost="heavy", axes=axes.scatter)
def scatter_mul(op: Application, g: Array) -> Sequence[Entry]:
    x, _, updates = op.inputs

    def update() -> Array:
        if not op.params["unique_indices"]:
            raise NoDerivativeError(
                op.op.name, "with respect to its updates it needs unique_indices=True, as in JAX", op.op.source
            )
        return read_back(op, lax.mul(g, x))

    return lambda: write(op, lax.scatter_mul, g, updates), None, update


def _scatter_extremum(op: Application, g: Array) -> Sequence[Entry]:
    """Operand and updates that attain the extremum at a place share its cotangent equally.

    The extremum of those that are there: of what was computed again, and rounded otherwise, nothing may equal the result.
    """
    x, where, updates = op.inputs
    x, updates = written_once([x, updates])
    (extremum,) = apply(op.op, [x, where, updates])
    kept = lax.convert_element_type(lax.eq(x, extremum), g.dtype)
    chosen = lax.convert_element_type(lax.eq(updates, read_back(op, extremum)), g.dtype)
    share = lax.div(g, write(op, lax.scatter_add, kept, chosen))
    return lambda: lax.mul(share, kept), None, lambda: lax.mul(read_back(op, share), chosen)


bprop(p.scatter_max_p, cost="heavy", axes=axes.scatter)(_scatter_extremum)
bprop(p.scatter_min_p, cost="heavy", axes=axes.scatter)(_scatter_extremum)
