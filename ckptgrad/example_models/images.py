"""Models of images: convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ckptgrad.example_models.parts import Problem, Weights, Wrap, conv, group_norm, max_pool, plain

Params: TypeAlias = dict[str, jax.Array]


def resnet(
    counts: tuple[int, ...] = (3, 4, 6, 3),
    width: int = 16,
    size: int = 32,
    batch: int = 8,
    wrap: Wrap = plain,
    weights: type[Weights] = Weights,
) -> Problem:
    """ResNet-50's chain of bottleneck blocks (1x1, 3x3, and 1x1 to four times the width) with group norm."""
    normal = weights()

    def unit(a: int, b: int, side: int) -> Params:
        return {"kernel": normal(side, side, a, b), "gain": jnp.ones(b), "bias": jnp.zeros(b)}

    def new_block(width_in: int, inner: int, width_out: int, stride: int) -> dict[str, Params]:
        block = {"in": unit(width_in, inner, 1), "mid": unit(inner, inner, 3), "out": unit(inner, width_out, 1)}
        return block | ({"skip": unit(width_in, width_out, 1)} if stride > 1 or width_in != width_out else {})

    blocks, strides, width_in = [], [], width
    for level, count in enumerate(counts):
        inner = width << level
        for k in range(count):
            stride = 2 if level and k == 0 else 1
            blocks.append(new_block(width_in, inner, 4 * inner, stride))
            strides.append(stride)
            width_in = 4 * inner
    params = {"stem": unit(3, width, 3), "blocks": blocks, "head": normal(width_in, 10)}

    def apply(p: Params, x: jax.Array, stride: int = 1) -> jax.Array:
        return group_norm(conv(x, p["kernel"], stride), p["gain"], p["bias"])

    def block(stride: int) -> Callable:
        def run(p: dict[str, Params], x: jax.Array) -> jax.Array:
            h = jax.nn.relu(apply(p["in"], x))
            h = jax.nn.relu(apply(p["mid"], h, stride))
            h = apply(p["out"], h)
            return jax.nn.relu(h + (apply(p["skip"], x, stride) if "skip" in p else x))

        return wrap(run)

    def loss(params: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        x = max_pool(jax.nn.relu(apply(params["stem"], x)))
        for p, stride in zip(params["blocks"], strides, strict=True):
            x = block(stride)(p, x)
        logits = jax.nn.log_softmax(x.mean((1, 2)) @ params["head"])
        return -jnp.take_along_axis(logits, labels[:, None], -1).mean()

    return loss, (params, normal(batch, 2 * size, 2 * size, 3), jnp.arange(batch) % 10)


def unet(
    levels: int = 3,
    width: int = 16,
    size: int = 64,
    batch: int = 4,
    wrap: Wrap = plain,
) -> Problem:
    """Convolutions down and up again, with skip connections by concatenation."""
    normal = Weights()
    widths = [width << k for k in range(levels + 1)]
    params = {
        "stem": normal(3, 3, 3, width),
        "down": [(normal(3, 3, a, a), normal(3, 3, a, b)) for a, b in itertools.pairwise(widths)],
        "up": [(normal(3, 3, a + b, a), normal(3, 3, a, a)) for a, b in itertools.pairwise(widths)][::-1],
        "out": normal(1, 1, width, 2),
    }

    block = wrap(lambda p, x: jax.nn.silu(conv(jax.nn.silu(conv(x, p[0])), p[1])))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        x, skips = conv(x, params["stem"]), []
        for p in params["down"]:
            skips.append(x)
            x = max_pool(block(p, x))
        for p in params["up"]:
            batch, height, width, channels = x.shape
            x = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "nearest")
            x = block(p, jnp.concatenate([x, skips.pop()], -1))
        return jnp.mean(jnp.tanh(conv(x, params["out"])) ** 2)

    return loss, (params, normal(batch, size, size, 3))
