"""Operations that move numbers about: broadcast, reshape, transpose, slice, pad, concatenate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.value_types import explicit_sharding
from ckptgrad.rules import shape_axes as axes
from ckptgrad.rules.decorators import const, instantiate, linear


@linear(p.broadcast_in_dim_p, cost="view", axes=axes.broadcast_in_dim)
def broadcast_in_dim(op: Application, g: Array) -> Sequence[Entry]:
    """The sum over the new axes and over those that were stretched from size 1."""
    x = op.in_avals[0]
    units = [i for i, n in enumerate(x.shape) if n == 1]
    kept = {d for i, d in enumerate(op.params["broadcast_dimensions"]) if i not in units}

    def entry() -> Array:
        axes = tuple(i for i in range(g.ndim) if i not in kept)
        total = lax.reduce_sum(g, axes) if axes else g
        return lax.expand_dims(total, units) if units else total

    return entry, *(None for _ in op.in_avals[1:])


@linear(p.reshape_p, cost="view", axes=axes.reshape)
def reshape(op: Application, g: Array) -> Sequence[Entry]:
    x, order = op.in_avals[0], op.params.get("dimensions")

    def entry() -> Array:
        if order is None:
            return lax.reshape(g, x.shape, out_sharding=explicit_sharding(x))
        return lax.transpose(lax.reshape(g, [x.shape[d] for d in order]), np.argsort(order))

    return entry, *(None for _ in op.in_avals[1:])


@linear(p.transpose_p, cost="view", axes=axes.transpose)
def transpose(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.transpose(g, np.argsort(op.params["permutation"])),)


@linear(p.squeeze_p, cost="view", axes=axes.squeeze)
def squeeze(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.expand_dims(g, op.params["dimensions"]),)


@linear(p.rev_p, cost="view", axes=axes.rev)
def rev(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.rev(g, op.params["dimensions"]),)


@linear(p.slice_p, cost="view", axes=axes.slice_)
def slice_(op: Application, g: Array) -> Sequence[Entry]:
    """Zeros around the slice, and strides - 1 zeros between its elements."""
    (x,), start = op.in_avals, op.params["start_indices"]
    strides = op.params["strides"] or (1,) * g.ndim
    spans = [(n - 1) * s + 1 if n else 0 for n, s in zip(g.shape, strides, strict=True)]
    config = [(lo, n - lo - span, s - 1) for lo, n, span, s in zip(start, x.shape, spans, strides, strict=True)]
    return (lambda: lax.pad(g, const(g, 0), config),)


@linear(p.pad_p, cost="elementwise", axes=axes.pad)
def pad(op: Application, g: Array) -> Sequence[Entry]:
    """The operand gets the cotangent at its places, the padding value the sum of the rest."""
    low, high, interior = zip(*op.params["padding_config"], strict=True) if g.ndim else ((), (), ())

    def operand() -> Array:
        ct, start = g, low
        if min((*low, *high), default=0) < 0:
            # Negative padding cropped the operand: what was cropped gets zeros.
            ct = lax.pad(g, const(g, 0), [(-lo, -hi, 0) for lo, hi in zip(low, high, strict=True)])
            start, stop = (0,) * g.ndim, ct.shape
        else:
            stop = tuple(n - hi for n, hi in zip(g.shape, high, strict=True))
        return lax.slice(ct, start, stop, [i + 1 for i in interior])

    def value() -> Array:
        axes = tuple(range(g.ndim))
        return lax.sub(lax.reduce_sum(g, axes), lax.reduce_sum(operand(), axes))

    return operand, value


@linear(p.concatenate_p, cost="gathering", axes=axes.concatenate)
def concatenate(op: Application, g: Array) -> Sequence[Entry]:
    axis = op.params["dimension"]
    ends = np.cumsum([x.shape[axis] for x in op.in_avals]).tolist()
    return [
        lambda start=start, end=end: lax.slice_in_dim(g, start, end, axis=axis)
        for start, end in zip([0, *ends], ends, strict=False)
    ]


@linear("split", cost="view", axes=axes.split)
def split(op: Application, *gs: Array) -> Sequence[Entry]:
    parts = [instantiate(g, aval) for g, aval in zip(gs, op.out_avals, strict=True)]
    return (lambda: lax.concatenate(parts, op.params["axis"]),)


@linear("stack", cost="gathering", axes=axes.stack)
def stack(op: Application, g: Array) -> Sequence[Entry]:
    axis = op.params["axis"]
    return [lambda i=i: lax.index_in_dim(g, i, axis, keepdims=False) for i in range(len(op.in_avals))]


@linear("unstack", cost="view", axes=axes.unstack)
def unstack(op: Application, *gs: Array) -> Sequence[Entry]:
    axis = op.params["axis"]
    parts = [instantiate(g, aval) for g, aval in zip(gs, op.out_avals, strict=True)]
    return (lambda: lax.concatenate([lax.expand_dims(part, (axis,)) for part in parts], axis),)


@linear("tile", cost="view", axes=axes.tile)
def tile(op: Application, g: Array) -> Sequence[Entry]:
    (x,), reps = op.in_avals, op.params["reps"]
    sizes = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    return (lambda: lax.reduce_sum(lax.reshape(g, sizes), tuple(range(0, len(sizes), 2))),)
