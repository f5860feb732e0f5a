"""A byte-level transformer in plain JAX: pre-norm blocks, causal attention, a GELU feed-forward.

Nothing here knows about memory budgets or checkpoints: it is an ordinary user's model. Parameters are dicts and lists of
arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.errors import OptionError

VOCABULARY = 256  # one token per byte
FEED_FORWARD = 4  # width of the hidden feed-forward layer, in multiples of the model's width
INITIAL_SCALE = 0.02

Params = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Raises:
        OptionError: a size is below 1, or `heads` does not divide `width`.
    """

    depth: int
    width: int
    heads: int
    context: int

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads", "context"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}={getattr(self, name)} is too small; it must be at least 1")
        if self.width % self.heads:
            raise OptionError(
                f"heads={self.heads} does not divide width={self.width}; choose a width that is a "
                f"multiple of the number of heads"
            )


def init_params(shape: Shape, key: jax.Array) -> Params:
    """Random parameters. The deeper the model, the smaller the weights that write into the residual stream."""
    keys = iter(jax.random.split(key, 3 + 4 * shape.depth))
    width, hidden = shape.width, FEED_FORWARD * shape.width
    outward = (2 * shape.depth) ** -0.5

    def normal(rows: int, columns: int, scale: float = 1.0) -> jax.Array:
        return INITIAL_SCALE * scale * jax.random.normal(next(keys), (rows, columns))

    return {
        "tokens": normal(VOCABULARY, width),
        "positions": normal(shape.context, width),
        "blocks": [
            {
                "attention_norm": _norm_params(width),
                "qkv": normal(width, 3 * width),
                "attention_out": normal(width, width, outward),
                "hidden_norm": _norm_params(width),
                "hidden": {"weight": normal(width, hidden), "bias": jnp.zeros(hidden)},
                "hidden_out": {"weight": normal(hidden, width, outward), "bias": jnp.zeros(width)},
            }
            for _ in range(shape.depth)
        ],
        "norm": _norm_params(width),
        "head": normal(width, VOCABULARY),
    }


def _norm_params(width: int) -> Params:
    return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}


def normalise(p: Params, x: jax.Array) -> jax.Array:
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["shift"]


def attend(p: Params, x: jax.Array, heads: int) -> jax.Array:
    """Causal self-attention on x of shape (batch, time, width)."""
    batch, time, width = x.shape
    q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
    q, k, v = (a.reshape(batch, time, heads, width // heads) for a in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
    past = jnp.tril(jnp.ones((time, time), bool))
    weights = jax.nn.softmax(jnp.where(past, scores, -jnp.inf), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, time, width)
    return mixed @ p["attention_out"]


def feed_forward(p: Params, x: jax.Array) -> jax.Array:
    """Two layers with a GELU between."""
    hidden = jax.nn.gelu(x @ p["hidden"]["weight"] + p["hidden"]["bias"])
    return hidden @ p["hidden_out"]["weight"] + p["hidden_out"]["bias"]


def logits(params: Params, tokens: jax.Array, heads: int) -> jax.Array:
    """Scores of the next byte, (batch, time, 256), for tokens of shape (batch, time)."""
    x = params["tokens"][tokens] + params["positions"][: tokens.shape[1]]
    for p in params["blocks"]:
        x = x + attend(p, normalise(p["attention_norm"], x), heads)
        x = x + feed_forward(p, normalise(p["hidden_norm"], x))
    return normalise(params["norm"], x) @ params["head"]


def loss(params: Params, tokens: jax.Array, heads: int) -> jax.Array:
    """Mean cross-entropy in nats per byte, for tokens of shape (batch, time + 1)."""
    scores = jax.nn.log_softmax(logits(params, tokens[:, :-1], heads))
    return -jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1).mean()


def continuation(params: Params, shape: Shape, prompt: bytes, key: jax.Array, temperature: float = 0.8) -> Iterator[int]:
    """An endless stream of bytes sampled to continue `prompt`."""

    @jax.jit
    def sample(window: jax.Array, last: jax.Array, key: jax.Array) -> jax.Array:
        scores = logits(params, window[None], shape.heads)[0, last]
        return jax.random.categorical(key, scores / temperature)

    text = list(prompt)
    while True:
        context = text[-shape.context :]
        window = jnp.zeros(shape.context, jnp.int32).at[: len(context)].set(jnp.array(context, jnp.int32))
        key, step_key = jax.random.split(key)
        text.append(int(sample(window, len(context) - 1, step_key)))
        yield text[-1]
