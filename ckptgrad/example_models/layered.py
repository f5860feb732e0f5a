"""Models that are stacks of small layers."""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.example_models.parts import Problem, Weights, Wrap, apply_layers, layer_norm, plain, stacked

Params: TypeAlias = dict[str, jax.Array]


def tanh_chain(
    layers: int = 32,
    width: int = 512,
    batch: int = 2048,
    wrap: Wrap = plain,
) -> Problem:
    """A residual tanh chain."""
    keys = jax.random.split(jax.random.key(0), layers + 1)
    params = [jax.random.normal(k, (width, width)) * 0.5 / np.sqrt(width) for k in keys[:-1]]
    x = jax.random.normal(keys[-1], (batch, width))
    layer = wrap(lambda w, x: x + jnp.tanh(x @ w))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        for w in params:
            x = layer(w, x)
        return jnp.mean(x**2)

    return loss, (params, x)


def gelu_stack(
    layers: int = 12,
    width: int = 256,
    hidden: int = 1024,
    batch: int = 2048,
    wrap: Wrap = plain,
    scanned: bool = False,
    segment: int = 1,
    wrap_segment: Wrap = plain,
    weights: type[Weights] = Weights,
) -> Problem:
    """Layers of layer norm, a product to `hidden`, GELU and a product back, each with a residual connection."""
    normal = weights()

    def new_layer() -> Params:
        return {
            "gain": jnp.ones(width), "bias": jnp.zeros(width), "up": normal(width, hidden),
            "up_bias": jnp.zeros(hidden), "down": normal(hidden, width), "down_bias": jnp.zeros(width),
        }  # fmt: skip

    params = [new_layer() for _ in range(layers)]

    def layer(p: Params, x: jax.Array) -> jax.Array:
        h = layer_norm(x, p["gain"], p["bias"])
        return x + jax.nn.gelu(h @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]

    layer = wrap(layer)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(apply_layers(layer, params, x, segment, wrap_segment) ** 2)

    return loss, (stacked(params) if scanned else params, normal(batch, width) * np.sqrt(batch))


def mixed_widths(
    widths: tuple[int, ...] = (64, 512, 128, 1024, 256, 64, 768, 32, 512, 512, 96, 256),
    batch: int = 2048,
    wrap: Wrap = plain,
) -> Problem:
    """Layers of very different widths, with four activation functions in turn."""
    normal = Weights()
    params = [(normal(a, b), jnp.zeros(b)) for a, b in itertools.pairwise(widths)]
    kinds = (jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.nn.softplus)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        for k, p in enumerate(params):
            x = wrap(lambda p, x, act=kinds[k % 4]: act(x @ p[0] + p[1]))(p, x)
        return jnp.mean(x**2)

    return loss, (params, normal(batch, widths[0]) * np.sqrt(batch))


def recurrent(
    steps: int = 24,
    width: int = 128,
    batch: int = 256,
    wrap: Wrap = plain,
) -> Problem:
    """A long short-term memory cell, unrolled in Python."""
    normal = Weights()
    params = {"x": normal(width, 4 * width), "h": normal(width, 4 * width), "b": jnp.zeros(4 * width)}

    def step(p: Params, state: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(x @ p["x"] + h @ p["h"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    step = wrap(step)

    def loss(params: Any, xs: list[jax.Array]) -> jax.Array:
        state = (jnp.zeros((batch, width)), jnp.zeros((batch, width)))
        for x in xs:
            state = step(params, state, x)
        return jnp.mean(state[0] ** 2)

    return loss, (params, [normal(batch, width) * np.sqrt(batch) for _ in range(steps)])


def tied(
    layers: int = 16,
    width: int = 256,
    batch: int = 2048,
    vocabulary: int = 64,
    wrap: Wrap = plain,
) -> Problem:
    """One block used at every depth, and the embedding used as the readout."""
    normal = Weights()
    params = {"embedding": normal(vocabulary, width), "block": normal(width, width), "gain": jnp.ones(width)}
    layer = wrap(lambda p, x: x + jnp.tanh(x @ p["block"]) * p["gain"])

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        x = params["embedding"][tokens]
        for _ in range(layers):
            x = layer(params, x)
        logits = jax.nn.log_softmax(x @ params["embedding"].T)
        return -jnp.mean(jnp.take_along_axis(logits, tokens[:, None], -1))

    return loss, (params, jnp.arange(batch) % vocabulary)
