"""Models of tokens: transformers, and what stands in their blocks' place."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ckptgrad.example_models.parts import Problem, Weights, Wrap, apply_layers, layer_norm, plain, stacked

Params: TypeAlias = dict[str, jax.Array]


def transformer(
    blocks: int = 12,
    width: int = 256,
    heads: int = 4,
    context: int = 256,
    batch: int = 8,
    vocabulary: int = 256,
    dtype: DTypeLike = jnp.float32,
    wrap: Wrap = plain,
    scanned: bool = False,
    segment: int = 1,
    wrap_segment: Wrap = plain,
    weights: type[Weights] = Weights,
) -> Problem:
    """A byte-level transformer; in bfloat16, norms and softmax stay in float32."""
    params = _transformer_params(weights(0.02, dtype), blocks, width, context, vocabulary)
    params["blocks"] = stacked(params["blocks"]) if scanned else params["blocks"]
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, vocabulary, (batch, context + 1)))

    def norm(x: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
        return layer_norm(x.astype(jnp.float32), gain, bias).astype(dtype)

    def split_heads(x: jax.Array) -> jax.Array:
        return x.reshape(batch, context, heads, width // heads).transpose(0, 2, 1, 3)

    def block(p: Params, x: jax.Array) -> jax.Array:
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

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        x = params["embedding"][tokens[:, :-1]] + params["position"]
        x = apply_layers(block, params["blocks"], x, segment, wrap_segment)
        x = norm(x, params["gain"], params["bias"])
        logits = jax.nn.log_softmax((x @ params["embedding"].T).astype(jnp.float32))
        return -jnp.mean(jnp.take_along_axis(logits, tokens[:, 1:, None], -1))

    return loss, (params, tokens)


def bfloat16_transformer(**sizes: Any) -> Problem:
    """The transformer with parameters and products in bfloat16."""
    return transformer(dtype=jnp.bfloat16, **sizes)


def _transformer_params(normal: Weights, blocks: int, width: int, context: int, vocabulary: int) -> dict[str, Any]:
    dtype = normal.dtype

    def new_block() -> Params:
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


def attention_blocks(
    blocks: int = 4,
    width: int = 1024,
    heads: int = 16,
    context: int = 1024,
    batch: int = 8,
    wrap: Wrap = plain,
    weights: type[Weights] = Weights,
) -> Problem:
    """A transformer's blocks alone: no embedding, no mask, no biases, and the mean square as the loss."""
    normal = weights()

    def new_block() -> Params:
        return {
            "g1": jnp.ones(width), "qkv": normal(width, 3 * width), "out": normal(width, width),
            "g2": jnp.ones(width), "up": normal(width, 4 * width), "down": normal(4 * width, width),
        }  # fmt: skip

    def norm(x: jax.Array, gain: jax.Array) -> jax.Array:
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * gain

    def block(p: Params, x: jax.Array) -> jax.Array:
        qkv = (norm(x, p["g1"]) @ p["qkv"]).reshape(batch, context, 3, heads, width // heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // heads) ** 0.5
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
        x = x + mixed.reshape(batch, context, width) @ p["out"]
        return x + jax.nn.gelu(norm(x, p["g2"]) @ p["up"]) @ p["down"]

    block = wrap(block)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(apply_layers(block, params, x).astype(jnp.float32) ** 2)

    return loss, ([new_block() for _ in range(blocks)], normal(batch, context, width))


def experts(
    layers: int = 6,
    width: int = 1024,
    hidden: int = 4096,
    count: int = 8,
    groups: int = 8,
    tokens: int = 2048,
    spare: float = 1.25,
    wrap: Wrap = plain,
    weights: type[Weights] = Weights,
) -> Problem:
    """Layers of experts of which each token is sent to one, as in GShard (Lepikhin et al. 2020, section 2.2 and appendix).

    Tokens are sent and fetched by products with one-hot tensors. In each group an expert takes `spare` times its share of
    the tokens; those beyond are passed by.
    """
    normal = weights()
    capacity = int(spare * tokens / count)

    def new_layer() -> Params:
        return {
            "router": normal(width, count), "up": normal(count, width, hidden), "down": normal(count, hidden, width),
        }  # fmt: skip

    def layer(p: Params, x: jax.Array) -> jax.Array:
        shares = jax.nn.softmax((x @ p["router"]).astype(jnp.float32), -1)
        chosen = jax.nn.one_hot(jnp.argmax(shares, -1), count)
        place = (jnp.cumsum(chosen, 1) * chosen - 1).astype(int)
        sent = jax.nn.one_hot(place, capacity, dtype=x.dtype)
        inputs = jnp.einsum("gtec,gtd->egcd", sent, x)
        outputs = jnp.einsum("egch,ehd->egcd", jax.nn.gelu(jnp.einsum("egcd,edh->egch", inputs, p["up"])), p["down"])
        fetched = sent * shares[..., None].astype(x.dtype)
        return x + jnp.einsum("gtec,egcd->gtd", fetched, outputs)

    layer = wrap(layer)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(apply_layers(layer, params, x).astype(jnp.float32) ** 2)

    return loss, ([new_layer() for _ in range(layers)], normal(groups, tokens, width))


def mixer(
    layers: int = 8,
    width: int = 128,
    patches: int = 64,
    batch: int = 32,
    wrap: Wrap = plain,
) -> Problem:
    """An MLP along patches, then one along channels, in each layer; a layer norm before each."""
    normal = Weights()

    def new_layer() -> Params:
        return {
            "g1": jnp.ones(width), "b1": jnp.zeros(width), "p1": normal(patches, 2 * patches),
            "p2": normal(2 * patches, patches),
            "g2": jnp.ones(width), "b2": jnp.zeros(width), "c1": normal(width, 2 * width), "c2": normal(2 * width, width),
        }  # fmt: skip

    params = [new_layer() for _ in range(layers)]

    def layer(p: Params, x: jax.Array) -> jax.Array:
        h = layer_norm(x, p["g1"], p["b1"]).transpose(0, 2, 1)
        x = x + (jax.nn.gelu(h @ p["p1"]) @ p["p2"]).transpose(0, 2, 1)
        h = layer_norm(x, p["g2"], p["b2"])
        return x + jax.nn.gelu(h @ p["c1"]) @ p["c2"]

    layer = wrap(layer)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        for p in params:
            x = layer(p, x)
        return jnp.mean(x**2)

    return loss, (params, normal(batch, patches, width) * np.sqrt(batch))
