"""Sorting and selection of the largest: the cotangents go back to where the values came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import bprop


def send_back(g: Any, places: Any, shape: Sequence[int], axis: int) -> Any:
    """Zeros of a shape, with g at the given (distinct) places along an axis."""
    others = tuple(i for i in range(g.ndim) if i != axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    return lax.scatter_add(
        lax.full(shape, 0, g.dtype),
        lax.expand_dims(places, (g.ndim,)),
        g,
        numbers,
        unique_indices=True,
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


@bprop(p.sort_p, cost="heavy", axes=axes.blocked(lambda op: (op.params["dimension"],)))
def sort(op: Application, *gs: Array) -> Sequence[Entry]:
    """Sort once more with the positions as a passenger: they say where each value came from."""
    shape, axis = op.in_avals[0].shape, op.params["dimension"]
    *_, places = lax.sort(
        (*op.inputs, lax.broadcasted_iota("int32", shape, axis)),
        dimension=axis,
        is_stable=op.params["is_stable"],
        num_keys=op.params["num_keys"],
    )
    return [None if g is None else lambda g=g: send_back(g, places, shape, axis) for g in gs]


@bprop(p.top_k_p, cost="heavy", axes=axes.blocked(lambda op: (op.params["axis"],)))
def top_k(op: Application, g: Array, _: Array) -> Sequence[Entry]:
    if g is None:
        return (None,)
    return (lambda: send_back(g, op.outputs[1], op.in_avals[0].shape, op.params["axis"]),)


@bprop(p.approx_top_k_p, cost="heavy")
def approx_top_k(op: Application, g: Array, _: Array) -> Sequence[Entry]:
    if g is None:
        return (None,)
    axis = op.params["reduction_dimension"] % g.ndim
    return (lambda: send_back(g, op.outputs[1], op.in_avals[0].shape, axis),)
