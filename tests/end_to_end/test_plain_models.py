"""Models in plain JAX: recurrent, scanned layers, U-Net, tied weights, attention in bfloat16, mixture of experts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import assert_same, quick

KEYS = jax.random.split(jax.random.key(0), 64)


def normal(k, *shape, dtype=jnp.float32):
    return (jax.random.normal(KEYS[k], shape) / jnp.sqrt(shape[0])).astype(dtype)


def lstm():
    """A recurrent net of two layers, each a `lax.scan`, with a loss on every step."""
    params = [{"x": normal(k, 12, 48), "h": normal(k + 2, 12, 48), "b": jnp.zeros(48)} for k in range(2)]
    xs = jax.random.normal(KEYS[9], (20, 5, 12))

    def layer(p, xs):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["x"] + h @ p["h"] + p["b"], 4, -1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((5, 12))
        return lax.scan(step, (start, start), xs)[1]

    def loss(params, xs):
        for p in params:
            xs = layer(p, xs)
        return (xs**2).mean()

    return loss, (params, xs)


def layers_by_scan():
    """Stacked layer weights and a scan over depth."""
    params = {"w": jnp.stack([normal(k, 16, 16) for k in range(8)]), "out": normal(9, 16, 4)}

    def loss(params, x):
        x, norms = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), (x**2).sum()), x, params["w"])
        return jax.nn.logsumexp(x @ params["out"], -1).mean() + 1e-3 * norms.sum()

    return loss, (params, normal(10, 6, 16))


def conv(x, w, stride=1):
    return lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def unet():
    """Three levels of convolutions with skip connections by concatenation."""
    kernel = lambda k, a, b: normal(k, 3, 3, a, b) / 3
    params = {
        "down": [kernel(0, 3, 8), kernel(1, 8, 12), kernel(2, 12, 16)],
        "middle": kernel(3, 16, 16),
        "up": [kernel(4, 32, 12), kernel(5, 24, 8), kernel(6, 16, 8)],
        "out": normal(7, 1, 1, 8, 2),
    }

    def loss(params, x):
        skips = []
        for w in params["down"]:
            x = jax.nn.silu(conv(x, w))
            skips.append(x)
            x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        x = jax.nn.silu(conv(x, params["middle"]))
        for w in params["up"]:
            b, h, v, c = x.shape
            x = jax.image.resize(x, (b, 2 * h, 2 * v, c), "nearest")
            x = jax.nn.silu(conv(jnp.concatenate([x, skips.pop()], -1), w))
        return (jnp.tanh(conv(x, params["out"])) ** 2).mean()

    return loss, (params, normal(8, 2, 16, 16, 3))


def tied():
    """One block used at every depth, and the embedding used as the readout."""
    params = {"embedding": normal(0, 20, 16), "block": normal(1, 16, 16), "gain": jnp.ones(16)}
    tokens = jnp.arange(24).reshape(3, 8) % 20

    def loss(params, tokens):
        x = params["embedding"][tokens]
        for _ in range(6):
            x = x + jnp.tanh(x @ params["block"]) * params["gain"]
        logits = jax.nn.log_softmax(x @ params["embedding"].T)
        return -jnp.take_along_axis(logits, tokens[..., None], -1).mean()

    return loss, (params, tokens)


def attention(dtype=jnp.bfloat16):
    """Pre-norm blocks with causal attention; norms and softmax in float32, products in `dtype`."""
    make = functools.partial(normal, dtype=dtype)
    blocks = [
        {"qkv": make(4 * k, 16, 48), "out": make(4 * k + 1, 16, 16), "up": make(4 * k + 2, 16, 64),
         "down": make(4 * k + 3, 64, 16), "gain": jnp.ones(16, dtype)}
        for k in range(3)
    ]  # fmt: skip

    def norm(x, gain):
        wide = x.astype(jnp.float32)
        return (wide * lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-5)).astype(x.dtype) * gain

    def block(p, x):
        q, k, v = jnp.split((norm(x, p["gain"]) @ p["qkv"]).reshape(2, 10, 4, 12), 3, -1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) / 2
        scores = jnp.where(jnp.tril(jnp.ones((10, 10), bool)), scores, -1e30)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1).astype(dtype), v).reshape(2, 10, 16)
        x = x + mixed @ p["out"]
        return x + jax.nn.gelu(norm(x, p["gain"]) @ p["up"]) @ p["down"]

    def loss(blocks, x):
        for p in blocks:
            x = block(p, x)
        return (x.astype(jnp.float32) ** 2).mean().astype(dtype)

    return loss, (blocks, make(40, 2, 10, 16))


def mixture():
    """Experts run under vmap, of which argmax picks one, weighted by a softmax gate; a cond that depends on the data."""
    params = {"gate": normal(0, 8, 4), "experts": jnp.stack([normal(k, 8, 8) for k in range(1, 5)])}

    def loss(params, x):
        for _ in range(4):
            gate = jax.nn.softmax(x @ params["gate"])
            best = jnp.argmax(gate, -1)
            outs = jax.vmap(lambda w: jax.nn.relu(x @ w))(params["experts"])
            chosen = jnp.take_along_axis(outs, best[None, :, None], 0)[0]
            x = x + chosen * jnp.max(gate, -1, keepdims=True)
            x = lax.cond(x.mean() > 0, lambda v: v * 0.5, jnp.sin, x)
        return (x**2).sum()

    return loss, (params, normal(6, 12, 8))


# Rounding errors accumulate in sums and with depth; bfloat16 has eight bits.
MODELS = {
    "LSTM": (lstm, 10), "layers by scan": (layers_by_scan, 10), "U-Net": (unet, 20), "weights tied": (tied, 20),
    "attention in bfloat16": (attention, 4), "attention": (lambda: attention(jnp.float32), 20),
    "mixture of experts": (mixture, 20),
}  # fmt: skip
every_model = pytest.mark.parametrize(
    ("make", "scale"),
    [pytest.param(*row, id=name, marks=[pytest.mark.slow] if name == "U-Net" else []) for name, row in MODELS.items()],
)


@pytest.mark.parametrize("budget", [pytest.param(None, marks=pytest.mark.slow), "min"])
@every_model
def test_gradients_equal_those_of_jax(make, scale, budget):
    loss, args = make()
    ours = quick(cg.value_and_grad(loss, budget=budget))(*args)
    assert_same(ours, quick(jax.value_and_grad(loss))(*args), scale=scale)


@pytest.mark.slow
@every_model
def test_a_certified_budget_between_the_smallest_and_none(make, scale):
    loss, args = make()
    smallest, unlimited = (cg.value_and_grad(loss, budget=b).compile(*args).peak_bytes for b in ("min", None))
    budget = max(smallest, (smallest + unlimited) // 2)
    certified = cg.value_and_grad(loss, budget=budget).compile(*args)
    assert certified.peak_bytes <= budget
    assert_same(certified(*args), jax.jit(jax.value_and_grad(loss))(*args), scale=scale)
