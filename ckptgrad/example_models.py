"""Models of many shapes in plain JAX, for benchmarks, tests and first tries.

Each takes its sizes and a function `wrap` that is applied to its block (for example `jax.checkpoint`), and returns a loss
with its arguments. Some take a source of their weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Problem: TypeAlias = tuple[Callable, tuple[Any, ...]]  # a loss and its arguments


def plain(block):
    """The block unchanged."""
    return block


class Weights:
    """A source of seeded normal weights, scaled by 1 / sqrt(inputs) unless a scale is given."""

    def __init__(self, scale=None, dtype=jnp.float32):
        self.random, self.scale, self.dtype = np.random.default_rng(0), scale, dtype

    def __call__(self, *shape):
        scale = self.scale or 1 / np.sqrt(np.prod(shape[:-1]))
        return jnp.asarray(self.random.normal(size=shape) * scale, self.dtype)


class Zeros(Weights):
    """A source of zeros: under `jax.eval_shape` nothing is made at all, so that a model may be of any size."""

    def __call__(self, *shape):
        return jnp.zeros(shape, self.dtype)


def tanh_chain(layers=32, width=512, batch=2048, wrap=plain):
    """A residual tanh chain."""
    keys = jax.random.split(jax.random.key(0), layers + 1)
    params = [jax.random.normal(k, (width, width)) * 0.5 / np.sqrt(width) for k in keys[:-1]]
    x = jax.random.normal(keys[-1], (batch, width))
    layer = wrap(lambda w, x: x + jnp.tanh(x @ w))

    def loss(params, x):
        for w in params:
            x = layer(w, x)
        return jnp.mean(x**2)

    return loss, (params, x)


def layer_norm(x, gain, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * gain + bias


def apply_layers(layer, params, x, segment=1, wrap_segment=plain):
    """Apply the layers in turn: a list of parameters is unrolled, parameters stacked along a first axis are scanned.

    If `segment` is above 1, stacked layers are scanned in segments of that length, each a scan to which `wrap_segment` is
    applied.
    """
    if isinstance(params, list):
        for p in params:
            x = layer(p, x)
        return x

    def scan(x, params):
        return lax.scan(lambda x, p: (layer(p, x), None), x, params)[0], None

    if segment == 1:
        return scan(x, params)[0]
    segments = jax.tree.map(lambda a: a.reshape(-1, segment, *a.shape[1:]), params)
    return lax.scan(wrap_segment(scan), x, segments)[0]


def stacked(params):
    """The parameters of equal layers, stacked along a first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def gelu_stack(
    layers=12,
    width=256,
    hidden=1024,
    batch=2048,
    wrap=plain,
    scanned=False,
    segment=1,
    wrap_segment=plain,
    weights=Weights,
):
    """Layers of layer norm, a product to `hidden`, GELU and a product back, each with a residual connection."""
    normal = weights()

    def new_layer():
        return {
            "gain": jnp.ones(width), "bias": jnp.zeros(width), "up": normal(width, hidden),
            "up_bias": jnp.zeros(hidden), "down": normal(hidden, width), "down_bias": jnp.zeros(width),
        }  # fmt: skip

    params = [new_layer() for _ in range(layers)]

    def layer(p, x):
        h = layer_norm(x, p["gain"], p["bias"])
        return x + jax.nn.gelu(h @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]

    layer = wrap(layer)

    def loss(params, x):
        return jnp.mean(apply_layers(layer, params, x, segment, wrap_segment) ** 2)

    return loss, (stacked(params) if scanned else params, normal(batch, width) * np.sqrt(batch))


def transformer(
    blocks=12,
    width=256,
    heads=4,
    context=256,
    batch=8,
    vocabulary=256,
    dtype=jnp.float32,
    wrap=plain,
    scanned=False,
    segment=1,
    wrap_segment=plain,
    weights=Weights,
):
    """A byte-level transformer; in bfloat16, norms and softmax stay in float32."""
    params = _transformer_params(weights(0.02, dtype), blocks, width, context, vocabulary)
    params["blocks"] = stacked(params["blocks"]) if scanned else params["blocks"]
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, vocabulary, (batch, context + 1)))

    def norm(x, gain, bias):
        return layer_norm(x.astype(jnp.float32), gain, bias).astype(dtype)

    def split_heads(x):
        return x.reshape(batch, context, heads, width // heads).transpose(0, 2, 1, 3)

    def block(p, x):
        h = norm(x, p["g1"], p["b1"])
        q, k, v = map(split_heads, jnp.split(h @ p["qkv"], 3, -1))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k).astype(jnp.float32) / np.sqrt(width // heads)
        causal = jnp.tril(jnp.ones((context, context), bool))
        attention = jax.nn.softmax(jnp.where(causal, scores, -1e30), -1).astype(dtype)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", attention, v)
        x = x + mixed.transpose(0, 2, 1, 3).reshape(batch, context, width) @ p["out"]
        h = norm(x, p["g2"], p["b2"])
        return x + jax.nn.gelu(h @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]

    block = wrap(block)

    def loss(params, tokens):
        x = params["embedding"][tokens[:, :-1]] + params["position"]
        x = apply_layers(block, params["blocks"], x, segment, wrap_segment)
        x = norm(x, params["gain"], params["bias"])
        logits = jax.nn.log_softmax((x @ params["embedding"].T).astype(jnp.float32))
        return -jnp.mean(jnp.take_along_axis(logits, tokens[:, 1:, None], -1))

    return loss, (params, tokens)


def _transformer_params(normal, blocks, width, context, vocabulary):
    dtype = normal.dtype

    def new_block():
        return {
            "g1": jnp.ones(width, dtype), "b1": jnp.zeros(width, dtype), "qkv": normal(width, 3 * width),
            "out": normal(width, width), "g2": jnp.ones(width, dtype), "b2": jnp.zeros(width, dtype),
            "up": normal(width, 4 * width), "up_bias": jnp.zeros(4 * width, dtype),
            "down": normal(4 * width, width), "down_bias": jnp.zeros(width, dtype),
        }  # fmt: skip

    return {
        "embedding": normal(vocabulary, width),
        "position": normal(context, width),
        "gain": jnp.ones(width, dtype),
        "bias": jnp.zeros(width, dtype),
        "blocks": [new_block() for _ in range(blocks)],
    }


def bfloat16_transformer(**sizes):
    """The transformer with parameters and products in bfloat16."""
    return transformer(dtype=jnp.bfloat16, **sizes)


def conv(x, kernel, stride=1):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def group_norm(x, gain, bias, groups=8):
    batch, height, width, channels = x.shape
    g = x.reshape(batch, height, width, groups, channels // groups)
    mean = g.mean((1, 2, 4), keepdims=True)
    variance = ((g - mean) ** 2).mean((1, 2, 4), keepdims=True)
    return ((g - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * gain + bias


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def resnet(counts=(3, 4, 6, 3), width=16, size=32, batch=8, wrap=plain, weights=Weights):
    """ResNet-50's chain of bottleneck blocks (1x1, 3x3, and 1x1 to four times the width) with group norm."""
    normal = weights()

    def unit(a, b, side):
        return {"kernel": normal(side, side, a, b), "gain": jnp.ones(b), "bias": jnp.zeros(b)}

    def new_block(width_in, inner, width_out, stride):
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

    def apply(p, x, stride=1):
        return group_norm(conv(x, p["kernel"], stride), p["gain"], p["bias"])

    def block(stride):
        def run(p, x):
            h = jax.nn.relu(apply(p["in"], x))
            h = jax.nn.relu(apply(p["mid"], h, stride))
            h = apply(p["out"], h)
            return jax.nn.relu(h + (apply(p["skip"], x, stride) if "skip" in p else x))

        return wrap(run)

    def loss(params, x, labels):
        x = max_pool(jax.nn.relu(apply(params["stem"], x)))
        for p, stride in zip(params["blocks"], strides, strict=True):
            x = block(stride)(p, x)
        logits = jax.nn.log_softmax(x.mean((1, 2)) @ params["head"])
        return -jnp.take_along_axis(logits, labels[:, None], -1).mean()

    return loss, (params, normal(batch, 2 * size, 2 * size, 3), jnp.arange(batch) % 10)


def unet(levels=3, width=16, size=64, batch=4, wrap=plain):
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

    def loss(params, x):
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


def mixed_widths(widths=(64, 512, 128, 1024, 256, 64, 768, 32, 512, 512, 96, 256), batch=2048, wrap=plain):
    """Layers of very different widths, with four activation functions in turn."""
    normal = Weights()
    params = [(normal(a, b), jnp.zeros(b)) for a, b in itertools.pairwise(widths)]
    kinds = (jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.nn.softplus)

    def loss(params, x):
        for k, p in enumerate(params):
            x = wrap(lambda p, x, act=kinds[k % 4]: act(x @ p[0] + p[1]))(p, x)
        return jnp.mean(x**2)

    return loss, (params, normal(batch, widths[0]) * np.sqrt(batch))


def recurrent(steps=24, width=128, batch=256, wrap=plain):
    """A long short-term memory cell, unrolled in Python."""
    normal = Weights()
    params = {"x": normal(width, 4 * width), "h": normal(width, 4 * width), "b": jnp.zeros(4 * width)}

    def step(p, state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ p["x"] + h @ p["h"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    step = wrap(step)

    def loss(params, xs):
        state = (jnp.zeros((batch, width)), jnp.zeros((batch, width)))
        for x in xs:
            state = step(params, state, x)
        return jnp.mean(state[0] ** 2)

    return loss, (params, [normal(batch, width) * np.sqrt(batch) for _ in range(steps)])


def tied(layers=16, width=256, batch=2048, vocabulary=64, wrap=plain):
    """One block used at every depth, and the embedding used as the readout."""
    normal = Weights()
    params = {"embedding": normal(vocabulary, width), "block": normal(width, width), "gain": jnp.ones(width)}
    layer = wrap(lambda p, x: x + jnp.tanh(x @ p["block"]) * p["gain"])

    def loss(params, tokens):
        x = params["embedding"][tokens]
        for _ in range(layers):
            x = layer(params, x)
        logits = jax.nn.log_softmax(x @ params["embedding"].T)
        return -jnp.mean(jnp.take_along_axis(logits, tokens[:, None], -1))

    return loss, (params, jnp.arange(batch) % vocabulary)


def mixer(layers=8, width=128, patches=64, batch=32, wrap=plain):
    """An MLP along patches, then one along channels, in each layer; a layer norm before each."""
    normal = Weights()

    def new_layer():
        return {
            "g1": jnp.ones(width), "b1": jnp.zeros(width), "p1": normal(patches, 2 * patches),
            "p2": normal(2 * patches, patches),
            "g2": jnp.ones(width), "b2": jnp.zeros(width), "c1": normal(width, 2 * width), "c2": normal(2 * width, width),
        }  # fmt: skip

    params = [new_layer() for _ in range(layers)]

    def layer(p, x):
        h = layer_norm(x, p["g1"], p["b1"]).transpose(0, 2, 1)
        x = x + (jax.nn.gelu(h @ p["p1"]) @ p["p2"]).transpose(0, 2, 1)
        h = layer_norm(x, p["g2"], p["b2"])
        return x + jax.nn.gelu(h @ p["c1"]) @ p["c2"]

    layer = wrap(layer)

    def loss(params, x):
        for p in params:
            x = layer(p, x)
        return jnp.mean(x**2)

    return loss, (params, normal(batch, patches, width) * np.sqrt(batch))


# For sweeps over budgets: small enough to compile many plans, large enough that small arrays do not matter.
SWEEP = {
    "tanh": (tanh_chain, {"layers": 16, "width": 128, "batch": 2048}),
    "gelu": (gelu_stack, {"layers": 8, "width": 128, "hidden": 512, "batch": 2048}),
    "transformer": (transformer, {"blocks": 6, "width": 128, "context": 128, "batch": 8}),
    "bfloat16": (bfloat16_transformer, {"blocks": 6, "width": 128, "context": 128, "batch": 8}),
    "resnet": (resnet, {"counts": (2, 2, 2, 2)}),
    "unet": (unet, {}),
    "mixed": (mixed_widths, {}),
    "recurrent": (recurrent, {"steps": 16}),
    "tied": (tied, {}),
    "mixer": (mixer, {}),
}
