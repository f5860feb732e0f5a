"""Reading and writing at run-time indices: dynamic slices and gather."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry, Part
from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.atoms import Array
from ckptgrad.rules import shape_axes as axes
from ckptgrad.rules.decorators import bprop, linear

# The operations clamp negative places; JAX's functions, unless told otherwise, count them from the end.
_taken = partial(lax.dynamic_slice, allow_negative_indices=False)
_put = partial(lax.dynamic_update_slice, allow_negative_indices=False)


@linear(p.dynamic_slice_p, cost="elementwise", axes=axes.dynamic_slice)
def dynamic_slice(op: Application, g: Array) -> Sequence[Entry]:
    x, (_, *starts) = op.in_avals[0], op.inputs

    def add(total: Array) -> Array:
        return _put(total, lax.add(_taken(total, starts, g.shape), g), starts)

    return Part(lambda: lax.full(x.shape, 0, g.dtype), add), *(None for _ in starts)


@linear(p.dynamic_update_slice_p, cost="gathering", axes=axes.dynamic_update_slice)
def dynamic_update_slice(op: Application, g: Array) -> Sequence[Entry]:
    update, (_, _, *starts) = op.in_avals[1], op.inputs
    return (
        lambda: _put(g, lax.full(update.shape, 0, g.dtype), starts),
        lambda: _taken(g, starts, update.shape),
        *(None for _ in starts),
    )


@bprop(p.gather_p, cost="gathering", axes=axes.gather)
def gather(op: Application, g: Array) -> Sequence[Entry]:
    """Each gathered slice is added at the place where it was read; dropped reads add nothing.

    Not linear as it stands: a read outside gives the fill value, whose tangent is zero.
    """
    x, indices, d = op.in_avals[0], op.inputs[1], op.params["dimension_numbers"]
    places = lax.ScatterDimensionNumbers(
        update_window_dims=d.offset_dims,
        inserted_window_dims=d.collapsed_slice_dims,
        scatter_dims_to_operand_dims=d.start_index_map,
        operand_batching_dims=d.operand_batching_dims,
        scatter_indices_batching_dims=d.start_indices_batching_dims,
    )

    def add(total: Array) -> Array:
        return lax.scatter_add(
            total,
            indices,
            g,
            places,
            indices_are_sorted=op.params["indices_are_sorted"],
            unique_indices=op.params["unique_indices"],
            mode=op.params["mode"],
        )

    return Part(lambda: lax.full(x.shape, 0, g.dtype), add), None
