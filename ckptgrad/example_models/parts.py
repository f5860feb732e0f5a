"""What the models are made of: sources of weights, layers, and ways to run a stack of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

# A loss and its arguments.
Problem: TypeAlias = tuple[Callable[..., jax.Array], tuple[Any, ...]]
# What is applied to a block.
Wrap: TypeAlias = Callable[[Callable], Callable]


def plain(block: Callable) -> Callable:
    """The block unchanged."""
    return block


class Weights:
    """A source of seeded normal weights, scaled by 1 / sqrt(inputs) unless a scale is given."""

    def __init__(self, scale: float | None = None, dtype: DTypeLike = jnp.float32) -> None:
        self.random, self.scale, self.dtype = np.random.default_rng(0), scale, dtype

    def __call__(self, *shape: int) -> jax.Array:
        scale = self.scale or 1 / np.sqrt(np.prod(shape[:-1]))
        return jnp.asarray(self.random.normal(size=shape) * scale, self.dtype)


class Zeros(Weights):
    """A source of zeros: under `jax.eval_shape` nothing is made at all, so that a model may be of any size."""

    def __call__(self, *shape: int) -> jax.Array:
        return jnp.zeros(shape, self.dtype)


def layer_norm(x: jax.Array, gain: ArrayLike, bias: ArrayLike) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * gain + bias


def apply_layers(layer: Callable, params: Any, x: jax.Array, segment: int = 1, wrap_segment: Wrap = plain) -> jax.Array:
    """Apply the layers in turn: a list of parameters is unrolled, parameters stacked along a first axis are scanned.

    If `segment` is above 1, stacked layers are scanned in segments of that length, each a scan to which `wrap_segment` is
    applied.
    """
    if isinstance(params, list):
        for p in params:
            x = layer(p, x)
        return x

    def scan(x: jax.Array, params: Any) -> tuple[jax.Array, None]:
        return lax.scan(lambda x, p: (layer(p, x), None), x, params)[0], None

    if segment == 1:
        return scan(x, params)[0]
    segments = jax.tree.map(lambda a: a.reshape(-1, segment, *a.shape[1:]), params)
    return lax.scan(wrap_segment(scan), x, segments)[0]


def stacked(params: list[Any]) -> Any:
    """The parameters of equal layers, stacked along a first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def group_norm(x: jax.Array, gain: ArrayLike, bias: ArrayLike, groups: int = 8) -> jax.Array:
    batch, height, width, channels = x.shape
    g = x.reshape(batch, height, width, groups, channels // groups)
    mean = g.mean((1, 2, 4), keepdims=True)
    variance = ((g - mean) ** 2).mean((1, 2, 4), keepdims=True)
    return ((g - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * gain + bias


def max_pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def without_arrays(make: Callable[..., Problem], dtype: DTypeLike, /, **options: Any) -> Problem:
    """A model's loss, and of its arguments the types alone, so that it may be of any size.

    Args:
        make: the model, which takes a source of its weights.
        dtype: the type of all real numbers.
        options: of the model.
    """
    losses: list[Callable[..., jax.Array]] = []

    def arguments() -> tuple[Any, ...]:
        loss, args = make(weights=Zeros, **options)
        losses.append(loss)
        return args

    def in_dtype(a: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(a.shape, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype)

    types = jax.tree.map(in_dtype, jax.eval_shape(arguments))
    return losses[0], types
