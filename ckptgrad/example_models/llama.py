"""A transformer of Llama's shape, whose parameters and activations can be laid over a mesh by the names of their axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.example_models.parts import Problem, Weights, Wrap, plain

# Lays an array over a mesh, given a name per axis; None for an axis that is not cut.
Place: TypeAlias = Callable[..., jax.Array]
Axes: TypeAlias = tuple[str | None, ...]

# The names of the axes of a layer's parameters, without that of the layers.
LAYER_AXES: dict[str, Axes] = {
    "attention_gain": (None,), "query": ("width", "heads"), "key": ("width", "heads"), "value": ("width", "heads"),
    "out": ("heads", "width"), "hidden_gain": (None,), "gate": ("width", "hidden"), "up": ("width", "hidden"),
    "down": ("hidden", "width"),
}  # fmt: skip
ROTARY_BASE = 500_000.0


def anywhere(x: jax.Array, *axes: str | None) -> jax.Array:
    """The array, left where it lies."""
    return x


def argument_axes() -> tuple[Any, Any]:
    """The names of the axes of the arguments of `llama`: a tuple of names in place of each array."""
    layers = {name: (None, *axes) for name, axes in LAYER_AXES.items()}
    outside = {"embedding": ("vocabulary", "width"), "gain": (None,), "head": ("width", "vocabulary")}
    return {"layers": layers, **outside}, ("batch", None)


def llama(
    layers: int = 80,
    width: int = 8192,
    heads: int = 64,
    groups: int = 8,
    hidden: int = 28672,
    context: int = 4096,
    batch: int = 1,
    vocabulary: int = 128_256,
    wrap: Wrap = plain,
    weights: type[Weights] = Weights,
    place: Place = anywhere,
) -> Problem:
    """Llama's transformer (Grattafiori et al. 2024, table 3; the default is that of 70 billion parameters).

    RMS norms, rotary positions, queries that share keys and values in groups, gated hidden layers, and a scan over stacked
    layers.  Norms, rotations, softmax and loss are computed in float32.

    Args:
        layers, width, heads, hidden, vocabulary: its shape.
        groups: the heads of keys and values, each for heads / groups queries.
        context, batch: positions of a sequence, and sequences.
        wrap: what is applied to a layer.
        weights: the source of weights.
        place: is given each parameter where it is read, and the activations between layers, with the names of their axes.
    """
    normal, size = weights(), width // heads
    shapes = {
        "attention_gain": (width,), "query": (width, width), "key": (width, groups * size), "value": (width, groups * size),
        "out": (width, width), "hidden_gain": (width,), "gate": (width, hidden), "up": (width, hidden),
        "down": (hidden, width),
    }  # fmt: skip

    def layer(stored: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        p = {name: place(w, *LAYER_AXES[name]) for name, w in stored.items()}
        y = _norm(x, p["attention_gain"])
        # Per group of queries: [batch, position, group, query of the group, size].
        queries = _rotated((y @ p["query"]).reshape(*y.shape[:2], heads, size))
        queries = queries.reshape(*y.shape[:2], groups, heads // groups, size)
        keys = _rotated((y @ p["key"]).reshape(*y.shape[:2], groups, size))
        values = (y @ p["value"]).reshape(*y.shape[:2], groups, size)
        x = x + _attention(queries, keys, values).reshape(x.shape) @ p["out"]
        y = _norm(x, p["hidden_gain"])
        return place(x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"], "batch", "positions", None)

    layer = wrap(layer)

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        embedding, head = place(params["embedding"], "vocabulary", "width"), place(params["head"], "width", "vocabulary")
        x = place(embedding[tokens[:, :-1]], "batch", "positions", None)
        x, _ = lax.scan(lambda x, p: (layer(p, x), None), x, params["layers"])
        logits = (_norm(x, params["gain"]) @ head).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)
        return jnp.mean(jax.nn.logsumexp(logits, -1, keepdims=True) - chosen)

    stacked = {name: normal(layers, *shape) for name, shape in shapes.items()}
    params = {
        "layers": stacked, "embedding": normal(vocabulary, width), "gain": normal(width), "head": normal(width, vocabulary),
    }  # fmt: skip
    return loss, (params, jnp.asarray(np.zeros((batch, context + 1), np.int32)))


def _norm(x: jax.Array, gain: jax.Array) -> jax.Array:
    y = x.astype(jnp.float32)
    return (y * lax.rsqrt(jnp.mean(y**2, -1, keepdims=True) + 1e-5)).astype(x.dtype) * gain


def _rotated(x: jax.Array) -> jax.Array:
    """Heads of [batch, position, head, size], the halves of each turned by its position (Su et al. 2021)."""
    half = x.shape[-1] // 2
    rates = ROTARY_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = (jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * rates)[:, None]
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


def _attention(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Causal attention of queries that share keys and values in groups."""
    scores = jnp.einsum("bsgqd,btgd->bgqst", queries, keys, preferred_element_type=jnp.float32)
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    shares = jax.nn.softmax(jnp.where(causal, scores * queries.shape[-1] ** -0.5, -1e30), -1).astype(values.dtype)
    return jnp.einsum("bgqst,btgd->bsgqd", shares, values)
