"""Models at the sizes that accelerators are used with: losses and the types of their arguments, none of which is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ckptgrad.bench.registry import Bench
from ckptgrad.example_models import Problem, Weights, Zeros, apply_layers, gelu_stack, plain, resnet, transformer


def attention_blocks(blocks=4, width=1024, heads=16, context=1024, batch=8, wrap=plain, weights=Weights):
    """A transformer's blocks alone: no embedding, no mask, no biases, and the mean square as the loss."""
    normal = weights()

    def new_block():
        return {
            "g1": jnp.ones(width), "qkv": normal(width, 3 * width), "out": normal(width, width),
            "g2": jnp.ones(width), "up": normal(width, 4 * width), "down": normal(4 * width, width),
        }  # fmt: skip

    def norm(x, gain):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * gain

    def block(p, x):
        qkv = (norm(x, p["g1"]) @ p["qkv"]).reshape(batch, context, 3, heads, width // heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // heads) ** 0.5
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
        x = x + mixed.reshape(batch, context, width) @ p["out"]
        return x + jax.nn.gelu(norm(x, p["g2"]) @ p["up"]) @ p["down"]

    block = wrap(block)

    def loss(params, x):
        return jnp.mean(apply_layers(block, params, x).astype(jnp.float32) ** 2)

    return loss, ([new_block() for _ in range(blocks)], normal(batch, context, width))


def experts(layers=6, width=1024, hidden=4096, count=8, groups=8, tokens=2048, spare=1.25, wrap=plain, weights=Weights):
    """Layers of experts of which each token is sent to one, as in GShard (Lepikhin et al. 2020, section 2.2 and appendix).

    Tokens are sent and fetched by products with one-hot tensors. In each group an expert takes `spare` times its share of
    the tokens; those beyond are passed by.
    """
    normal = weights()
    capacity = int(spare * tokens / count)

    def new_layer():
        return {
            "router": normal(width, count), "up": normal(count, width, hidden), "down": normal(count, hidden, width),
        }  # fmt: skip

    def layer(p, x):
        shares = jax.nn.softmax((x @ p["router"]).astype(jnp.float32), -1)
        chosen = jax.nn.one_hot(jnp.argmax(shares, -1), count)
        place = (jnp.cumsum(chosen, 1) * chosen - 1).astype(int)
        sent = jax.nn.one_hot(place, capacity, dtype=x.dtype)
        inputs = jnp.einsum("gtec,gtd->egcd", sent, x)
        outputs = jnp.einsum("egch,ehd->egcd", jax.nn.gelu(jnp.einsum("egcd,edh->egch", inputs, p["up"])), p["down"])
        fetched = sent * shares[..., None].astype(x.dtype)
        return x + jnp.einsum("gtec,egcd->gtd", fetched, outputs)

    layer = wrap(layer)

    def loss(params, x):
        return jnp.mean(apply_layers(layer, params, x).astype(jnp.float32) ** 2)

    return loss, ([new_layer() for _ in range(layers)], normal(groups, tokens, width))


@dataclass(frozen=True)
class TargetModel:
    """A model for accelerators, at full size and at its quick one."""

    title: str
    make: Callable[..., Problem]
    sizes: dict[str, Any]
    quick: dict[str, Any]

    def __call__(self, bench: Bench, dtype: DTypeLike, wrap: Callable[[Callable], Callable] = plain) -> Problem:
        """The loss and the types of its arguments, those of real numbers in `dtype`; `wrap` is applied to the block."""
        losses: list[Callable] = []

        def arguments() -> tuple[Any, ...]:
            options = bench.size(self.sizes, self.quick) | ({"dtype": dtype} if self.make is transformer else {})
            loss, args = self.make(wrap=wrap, weights=Zeros, **options)
            losses.append(loss)
            return args

        def in_dtype(a: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(a.shape, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype)

        types = jax.tree.map(in_dtype, jax.eval_shape(arguments))
        return losses[0], types


_GELU = {"layers": 12, "width": 1024, "hidden": 4096, "batch": 16384}
_QUICK_GELU = {"layers": 3, "width": 128, "hidden": 512, "batch": 1024}
_QUICK_BLOCKS = {"blocks": 2, "width": 128, "heads": 4, "context": 128, "batch": 2}

MODELS = {
    "mlp": TargetModel("12 GELU layers, 1024 to 4096 to 1024, batch 16,384", gelu_stack, _GELU, _QUICK_GELU),
    "transformer": TargetModel(
        "4 transformer blocks, width 1024, context 1024, batch 8", attention_blocks, {"blocks": 4}, _QUICK_BLOCKS
    ),
    "deep": TargetModel(
        "12 transformer blocks, width 1024, context 1024, batch 8", attention_blocks, {"blocks": 12}, _QUICK_BLOCKS
    ),
    "gpt": TargetModel(
        "GPT-2 small: 12 blocks, width 768, context 1024, 50,257 words, batch 8",
        transformer,
        {"blocks": 12, "width": 768, "heads": 12, "context": 1024, "batch": 8, "vocabulary": 50257},
        _QUICK_BLOCKS | {"vocabulary": 512},
    ),
    "resnet": TargetModel(
        "ResNet-50's chain of blocks with group norm, 64 images of 112 x 112",
        resnet,
        {"width": 64, "size": 56, "batch": 64},
        {"counts": (1, 1), "width": 16, "size": 16, "batch": 4},
    ),
    "experts": TargetModel(
        "6 layers of 8 experts, 1024 to 4096 to 1024, 16,384 tokens",
        experts,
        {"layers": 6},
        {"layers": 2, "width": 64, "hidden": 128, "count": 4, "groups": 2, "tokens": 128},
    ),
    "scan": TargetModel(
        "A scan over 12 GELU layers, 1024 to 4096 to 1024, batch 16,384",
        gelu_stack,
        _GELU | {"scanned": True},
        _QUICK_GELU | {"scanned": True},
    ),
}
