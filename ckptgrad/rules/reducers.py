"""Reductions with the user's own reducer, by a definition through slices and the reducer itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core import primitives as p

from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import defined

Arrays = Sequence[Any]


def over_arrays(program: ClosedJaxpr, ndim: int) -> Callable:
    """A reducer of scalars as a function of arrays."""
    run = jaxpr_as_fun(program)
    for _ in range(ndim):
        run = jax.vmap(run)
    return lambda xs, ys: run(*xs, *ys)


def filled(values: Arrays, shape: Sequence[int]) -> list[Any]:
    return [lax.broadcast(v, shape) for v in values]


@defined(p.reduce_p, cost="reduction")
def reduce(params: dict[str, Any], *inputs: Array) -> Sequence[Array]:
    """Halves are combined until one value is left, then the initial value."""
    xs, init = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
    shape, axes = xs[0].shape, params["dimensions"]
    kept = [i for i in range(len(shape)) if i not in axes]
    sizes = [shape[i] for i in kept]
    flat = [math.prod(shape[i] for i in axes), *sizes]
    xs = [lax.reshape(lax.transpose(x, [*axes, *kept]), flat) for x in xs]
    combine = over_arrays(params["jaxpr"], len(flat))

    def part(values: Sequence[Array], start: int, stop: int) -> list[Array]:
        return [lax.slice_in_dim(v, start, stop) for v in values]

    while (n := xs[0].shape[0]) > 1:
        pairs = combine(part(xs, 0, n // 2), part(xs, n // 2, n - n % 2))
        xs = [lax.concatenate([y, x], 0) for y, x in zip(pairs, part(xs, n - 1, n), strict=True)] if n % 2 else pairs
    start = filled(init, (1, *sizes))
    total = combine(start, xs) if xs[0].shape[0] else start
    return [lax.squeeze(t, (0,)) for t in total]


@defined(p.reduce_window_p, cost="heavy")
def reduce_window(params: dict[str, Any], *inputs: Array) -> Sequence[Array]:
    """One offset within the window after another, in row-major order."""
    xs, init = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
    strides, dilation = params["window_strides"], params["window_dilation"]
    config = [(lo, hi, d - 1) for (lo, hi), d in zip(params["padding"], params["base_dilation"], strict=True)]
    padded = [lax.pad(x, i, config) for x, i in zip(xs, init, strict=True)]
    spans = [(w - 1) * d + 1 for w, d in zip(params["window_dimensions"], dilation, strict=True)]
    sizes = [max((n - span) // s + 1, 0) for n, span, s in zip(padded[0].shape, spans, strides, strict=True)]
    combine = over_arrays(ClosedJaxpr(params["jaxpr"], params["consts"]), len(sizes))
    total = filled(init, sizes)
    for index in np.ndindex(*params["window_dimensions"]):
        start = [i * d for i, d in zip(index, dilation, strict=True)]
        stop = [o + (n - 1) * s + 1 if n else o for o, n, s in zip(start, sizes, strides, strict=True)]
        total = combine(total, [lax.slice(x, start, stop, strides) for x in padded])
    return total
