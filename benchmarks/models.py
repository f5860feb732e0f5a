"""The models that the benchmarks differentiate, written plainly in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def tanh_chain(layers=32, width=512, batch=2048):
    """A residual tanh chain: (loss, (params, x), the same with jax.checkpoint a layer)."""
    keys = jax.random.split(jax.random.key(0), layers + 1)
    params = [jax.random.normal(k, (width, width)) * 0.5 / np.sqrt(width) for k in keys[:-1]]
    x = jax.random.normal(keys[-1], (batch, width))

    def layer(w, x):
        return x + jnp.tanh(x @ w)

    def loss_with(layer):
        def loss(params, x):
            for w in params:
                x = layer(w, x)
            return jnp.mean(x**2)

        return loss

    return loss_with(layer), (params, x), loss_with(jax.checkpoint(layer))


def transformer(blocks=12, width=256, heads=4, context=256, batch=8, vocabulary=256):
    """A byte-level transformer: (loss, (params, tokens), the same with jax.checkpoint a block)."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape).astype(np.float32) * 0.02)

    def new_block():
        return {
            "g1": jnp.ones(width), "b1": jnp.zeros(width), "qkv": normal(width, 3 * width),
            "out": normal(width, width), "g2": jnp.ones(width), "b2": jnp.zeros(width),
            "up": normal(width, 4 * width), "up_bias": jnp.zeros(4 * width),
            "down": normal(4 * width, width), "down_bias": jnp.zeros(width),
        }  # fmt: skip

    params = {
        "embedding": normal(vocabulary, width),
        "position": normal(context, width),
        "gain": jnp.ones(width),
        "bias": jnp.zeros(width),
        "blocks": [new_block() for _ in range(blocks)],
    }
    tokens = jnp.asarray(random.integers(0, vocabulary, (batch, context + 1)))

    def norm(x, gain, bias):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-5) * gain + bias

    def split_heads(x):
        return x.reshape(batch, context, heads, width // heads).transpose(0, 2, 1, 3)

    def block(p, x):
        h = norm(x, p["g1"], p["b1"])
        q, k, v = map(split_heads, jnp.split(h @ p["qkv"], 3, -1))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(width // heads)
        causal = jnp.tril(jnp.ones((context, context), bool))
        attention = jax.nn.softmax(jnp.where(causal, scores, -1e30), -1)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", attention, v)
        x = x + mixed.transpose(0, 2, 1, 3).reshape(batch, context, width) @ p["out"]
        h = norm(x, p["g2"], p["b2"])
        return x + jax.nn.gelu(h @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]

    def loss_with(block):
        def loss(params, tokens):
            x = params["embedding"][tokens[:, :-1]] + params["position"]
            for p in params["blocks"]:
                x = block(p, x)
            x = norm(x, params["gain"], params["bias"])
            logits = jax.nn.log_softmax(x @ params["embedding"].T)
            return -jnp.mean(jnp.take_along_axis(logits, tokens[:, 1:, None], -1))

        return loss

    return loss_with(block), (params, tokens), loss_with(jax.checkpoint(block))
