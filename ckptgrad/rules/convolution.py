"""Convolution: `conv_general_dilated`, with strides, padding, dilations and groups.

Without the space axes a convolution is a matrix product of batch m, input features j and output
features k: [m, j] [j, k] -> [m, k].  So the gradients are convolutions too: towards the input with
the kernel mirrored and its feature axes swapped, [m, k] [k, j]; towards the kernel with the batch
in the role of the features, [j, m] [m, k].  Strides become dilations and the reverse.
Feature groups of the forward convolution become batch groups towards the kernel; batch groups
become feature groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.graph import Operation
from ckptgrad.rules.decorators import bprop, cast

Pairs = list[tuple[int, int]]


def _flops(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    kernel = ins[1].shape
    out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(outs[0].shape) * math.prod(kernel) // max(out_features, 1)


def _conv_axes(op: Operation) -> Links:
    """The batch, and without groups features as in a product; space is needed whole."""
    spec, grouped = op.params["dimension_numbers"], op.params["feature_group_count"] > 1
    if op.params["batch_group_count"] > 1:
        return Links([[None] * len(s) for s in spec[:2]], [[None] * len(spec.out_spec)])
    names = (("batch", "in"), ("out", "in"), ("batch", "out"))
    labels: list[list[str | None]] = []
    for places, own in zip(spec, names, strict=True):
        labels.append([None] * len(places))
        for place, name in zip(places, own, strict=False):
            labels[-1][place] = name if name == "batch" or not grouped else None
    return Links(labels[:2], labels[2:], frozenset({"in"}))


@bprop(p.conv_general_dilated_p, cost="product", flops=_flops, axes=Linked(_conv_axes))
def conv_general_dilated(op: Application, g: Array) -> Sequence[Entry]:
    return lambda: towards_input(op, g), lambda: towards_kernel(op, g)


def towards_input(op: Any, g: Any) -> Any:
    x, kernel = op.in_avals[0], op.inputs[1]
    x_spec, kernel_spec, out_spec = op.params["dimension_numbers"]
    batch_groups = op.params["batch_group_count"]
    groups = max(op.params["feature_group_count"], batch_groups)
    out_features, in_features, *space = kernel_spec
    if groups > 1:
        kernel = move_factor(kernel, groups, out_features, in_features)
    out = lax.conv_general_dilated(
        g,
        cast(lax.rev(kernel, space), g.dtype),
        window_strides=op.params["lhs_dilation"],
        padding=padding_towards_input(
            [x.shape[i] for i in x_spec[2:]],
            [kernel.shape[i] for i in space],
            [g.shape[i] for i in out_spec[2:]],
            *space_params(op),
        ),
        lhs_dilation=op.params["window_strides"],
        rhs_dilation=op.params["rhs_dilation"],
        dimension_numbers=lax.ConvDimensionNumbers(out_spec, swapped(kernel_spec), x_spec),
        feature_group_count=groups,
        precision=op.params["precision"],
        preferred_element_type=op.params["preferred_element_type"],
    )
    if batch_groups > 1:
        out = move_factor(out, batch_groups, x_spec[1], x_spec[0])
    return cast(out, x.dtype)


def towards_kernel(op: Any, g: Any) -> Any:
    if g.size == 0:
        return None
    x, kernel = op.inputs[0], op.in_avals[1]
    x_spec, kernel_spec, out_spec = op.params["dimension_numbers"]
    out = lax.conv_general_dilated(
        cast(x, g.dtype),
        g,
        window_strides=op.params["rhs_dilation"],
        padding=padding_towards_kernel(
            [x.shape[i] for i in x_spec[2:]],
            [kernel.shape[i] for i in kernel_spec[2:]],
            [g.shape[i] for i in out_spec[2:]],
            *space_params(op),
        ),
        lhs_dilation=op.params["lhs_dilation"],
        rhs_dilation=op.params["window_strides"],
        dimension_numbers=lax.ConvDimensionNumbers(swapped(x_spec), swapped(out_spec), swapped(kernel_spec)),
        feature_group_count=op.params["batch_group_count"],
        batch_group_count=op.params["feature_group_count"],
        precision=op.params["precision"],
        preferred_element_type=op.params["preferred_element_type"],
    )
    return cast(out, kernel.dtype)


def space_params(op: Any) -> tuple[Any, ...]:
    """Strides, padding, dilation of the input and of the kernel."""
    return tuple(op.params[n] for n in ("window_strides", "padding", "lhs_dilation", "rhs_dilation"))


def swapped(spec: Sequence[int]) -> tuple[int, ...]:
    """A specification with the roles of its first two axes exchanged."""
    return (spec[1], spec[0], *spec[2:])


def move_factor(x: Any, count: int, source: int, target: int) -> Any:
    """Move a factor `count` of the size of axis `source` to the front of axis `target`."""
    split = [*x.shape[:source], count, x.shape[source] // count, *x.shape[source + 1 :]]
    order = [i for i in range(len(split)) if i != source]
    order.insert(target, source)
    merged = list(x.shape)
    merged[source] //= count
    merged[target] *= count
    return lax.reshape(lax.transpose(lax.reshape(x, split), order), merged)


def dilated(shape: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Sizes with dilation - 1 holes between neighbours."""
    return [(n - 1) * d + 1 if n else 0 for n, d in zip(shape, dilation, strict=True)]


def padding_towards_input(
    x: Sequence[int],
    window: Sequence[int],
    out: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    x_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Pairs:
    """Padding of the dilated cotangent such that the mirrored window visits each input once."""
    sizes = zip(dilated(x, x_dilation), dilated(window, window_dilation), dilated(out, strides), padding, strict=True)
    return [(w - lo - 1, n + lo - o) for n, w, o, (lo, _) in sizes]


def padding_towards_kernel(
    x: Sequence[int],
    window: Sequence[int],
    out: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    x_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Pairs:
    """Padding of the input such that the dilated cotangent fits once for each kernel element."""
    sizes = zip(dilated(x, x_dilation), dilated(window, window_dilation), dilated(out, strides), padding, strict=True)
    return [(lo, o - n + w - lo - 1) for n, w, o, (lo, _) in sizes]
