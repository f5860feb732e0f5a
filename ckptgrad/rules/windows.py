"""Windowed reductions: average and maximum pooling, and the primitives of their gradients.

The gradient of a maximum over windows sends each cotangent to the chosen element
(`select_and_scatter_add`); that is linear, and its transpose collects from the chosen elements
(`select_and_gather_add`).  Of equal elements the first is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.graph import Operation
from ckptgrad.rules.convolution import dilated, padding_towards_input
from ckptgrad.rules.decorators import bprop, const, linear
from ckptgrad.rules.forms import is_wanted
from ckptgrad.rules.reductions import written_once
from ckptgrad.target.platform import Form

Geometry = dict[str, Any]

# Larger windows are left to `select_and_scatter_add`.
MOST_OFFSETS = 16


def geometry(op: Any) -> Geometry:
    """The parameters that say where the windows lie."""
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    return {name: op.params[name] for name in names if name in op.params}


def undilated(ndim: int) -> Geometry:
    return {"base_dilation": (1,) * ndim, "window_dilation": (1,) * ndim}


def _window_axes(op: Operation) -> Links:
    """Axes along which every window is one place of the operand."""
    whole = [None] * len(op.params["window_dimensions"])
    trivial = {"window_dimensions": 1, "window_strides": 1, "padding": (0, 0), "base_dilation": 1, "window_dilation": 1}
    labels = [
        d if all(where[d] == trivial[name] for name, where in geometry(op).items()) else None for d in range(len(whole))
    ]
    return Links([labels], [labels])


@linear(p.reduce_window_sum_p, cost="heavy", axes=Linked(_window_axes))
def reduce_window_sum(op: Application, g: Array) -> Sequence[Entry]:
    """Each input gets the sum of the cotangents of the windows that hold it."""
    (x,), where = op.in_avals, geometry(op)
    around = padding_towards_input(
        x.shape,
        where["window_dimensions"],
        g.shape,
        where["window_strides"],
        where["padding"],
        where["base_dilation"],
        where["window_dilation"],
    )
    config = [(lo, hi, s - 1) for (lo, hi), s in zip(around, where["window_strides"], strict=True)]

    def entry() -> Array:
        return p.reduce_window_sum_p.bind(
            lax.pad(g, const(g, 0), config),
            window_dimensions=where["window_dimensions"],
            window_strides=where["base_dilation"],
            padding=((0, 0),) * g.ndim,
            base_dilation=(1,) * g.ndim,
            window_dilation=where["window_dilation"],
        )

    return (entry,)


def lowest(dtype: Any, choice: Any) -> Any:
    """The number that is never chosen over another by `ge_p` or `le_p`."""
    return np.array(-np.inf if choice is p.ge_p else np.inf, dtype)


def scatter_to_chosen(g: Any, x: Any, choice: Any, where: Geometry) -> Any:
    """Add each cotangent at the element that its window chose."""
    where = undilated(x.ndim) | where
    base = where["base_dilation"]
    is_small = is_wanted(Form.BY_OFFSETS) and np.prod(where["window_dimensions"]) <= MOST_OFFSETS
    if is_small or any(d > 1 for d in where["window_dilation"]):
        return scatter_by_offsets(g, x, choice, where)
    spaced = x
    if any(d > 1 for d in base):
        spaced = lax.pad(x, lowest(x.dtype, choice), [(0, 0, d - 1) for d in base])
    out = p.select_and_scatter_add_p.bind(
        g,
        spaced,
        select_prim=choice,
        window_dimensions=where["window_dimensions"],
        window_strides=where["window_strides"],
        padding=where["padding"],
    )
    return out if spaced is x else lax.slice(out, (0,) * x.ndim, out.shape, base)


def scatter_by_offsets(g: Any, x: Any, choice: Any, where: Geometry) -> Any:
    """The same, one offset within the window at a time: elementwise work that a compiler fuses.

    For small windows on CPUs and GPUs several times faster than `select_and_scatter_add`, without the arrays of indices that
    its expansion holds, and the only way for dilated ones. TPUs have an instruction for that.
    """
    base, strides = where["base_dilation"], where["window_strides"]
    config = [(lo, hi, d - 1) for (lo, hi), d in zip(where["padding"], base, strict=True)]
    (x,) = written_once([x])
    padded = lax.pad(x, lowest(x.dtype, choice), config)
    offsets = [np.multiply(i, where["window_dilation"]) for i in np.ndindex(*where["window_dimensions"])]

    def at(offset: Any) -> Any:
        stop = [o + (n - 1) * s + 1 for o, n, s in zip(offset, g.shape, strides, strict=True)]
        return lax.slice(padded, offset, stop, strides)

    extremum = lax.max if choice is p.ge_p else lax.min
    best = at(offsets[0])
    for offset in offsets[1:]:
        best = extremum(best, at(offset))
    passed_on = lax.full(g.shape, False)
    total = lax.full(padded.shape, 0, g.dtype)
    for offset in offsets:
        hit = lax.bitwise_and(lax.eq(at(offset), best), lax.bitwise_not(passed_on))
        passed_on = lax.bitwise_or(passed_on, hit)
        spans = dilated(g.shape, strides)
        around = [
            (int(o), int(n - o - span), s - 1) for o, n, span, s in zip(offset, padded.shape, spans, strides, strict=True)
        ]
        total = lax.add(total, lax.pad(lax.select(hit, g, lax.full_like(g, 0)), const(g, 0), around))
    cropped = lax.pad(total, const(g, 0), [(-lo, -hi, 0) for lo, hi in where["padding"]])
    return lax.slice(cropped, (0,) * x.ndim, cropped.shape, base)


@bprop(p.reduce_window_max_p, cost="heavy", axes=Linked(_window_axes))
def reduce_window_max(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: scatter_to_chosen(g, op.inputs[0], p.ge_p, geometry(op)),)


@bprop(p.reduce_window_min_p, cost="heavy", axes=Linked(_window_axes))
def reduce_window_min(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: scatter_to_chosen(g, op.inputs[0], p.le_p, geometry(op)),)


@bprop(p.select_and_gather_add_p, cost="heavy")
def select_and_gather_add(op: Application, g: Array) -> Sequence[Entry]:
    return lambda: scatter_to_chosen(g, op.inputs[1], op.params["select_prim"], geometry(op)), None


@bprop(p.select_and_scatter_add_p, cost="heavy")
def select_and_scatter_add(op: Application, g: Array) -> Sequence[Entry]:
    def source() -> Array:
        return p.select_and_gather_add_p.bind(
            g, op.inputs[1], select_prim=op.params["select_prim"], **geometry(op), **undilated(g.ndim)
        )

    return source, None
