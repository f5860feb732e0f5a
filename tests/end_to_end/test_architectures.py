"""Architectures written with popular libraries: value and gradients equal JAX's, with and without a budget."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import ckptgrad as cg
from tests.support.compare import assert_same, quick

KEY = jax.random.key(0)


def nnx_transformer():
    """Flax NNX: a module split into its graph and its parameters."""

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.out = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm(x))
            return x + nnx.gelu(self.out(x))

    model = nnx.Sequential(Block(nnx.Rngs(0)), Block(nnx.Rngs(1)))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    x = jax.random.normal(KEY, (2, 5, 8))
    return lambda params: (nnx.merge(graph, params, rest)(x) ** 2).mean(), (params,)


def ctc():
    """The loss of speech recognition: a scan over time of log-probabilities, many of which are -inf."""
    logits = jax.random.normal(KEY, (2, 9, 5))
    padding = jnp.zeros((2, 9)).at[1, 7:].set(1)
    labels, label_padding = jnp.array([[1, 2, 2], [3, 1, 0]]), jnp.array([[0.0, 0, 0], [0, 0, 1]])
    weights = jax.random.normal(jax.random.key(1), (5, 5))
    return lambda w: optax.ctc_loss(logits @ w, padding, labels, label_padding).mean(), (weights,)


def lstm():
    """Flax's LSTM and GRU, scanned over time, with dropout between them."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.RNN(nn.OptimizedLSTMCell(6))(x)
            x = nn.Dropout(0.3, deterministic=False)(x)
            return nn.Dense(1)(nn.RNN(nn.GRUCell(4), reverse=True, keep_order=True)(x))

    x = jax.random.normal(KEY, (2, 7, 3))
    model = Model()
    params = model.init({"params": KEY, "dropout": KEY}, x)
    return lambda p, x: (model.apply(p, x, rngs={"dropout": KEY}) ** 2).mean(), (params, x)


def equinox_gru():
    cell = eqx.nn.GRUCell(3, 5, key=KEY)
    params, static = eqx.partition(cell, eqx.is_array)
    xs = jax.random.normal(KEY, (8, 3))

    def loss(params):
        cell = eqx.combine(params, static)
        final, _ = jax.lax.scan(lambda h, x: (cell(x, h), None), jnp.zeros(5), xs)
        return (final**2).sum()

    return loss, (params,)


def unet():
    """Convolutions down and up, with skip connections, pooling, and batch norm that updates its running state."""

    class UNet(nn.Module):
        @nn.compact
        def __call__(self, x):
            skips = []
            for width in (4, 6):
                x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Conv(width, (3, 3))(x)))
                skips.append(x)
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.relu(nn.Conv(8, (3, 3))(x))
            for width, skip in zip((6, 4), skips[::-1], strict=True):
                x = jnp.concatenate([nn.ConvTranspose(width, (2, 2), (2, 2))(x), skip], -1)
                x = nn.relu(nn.GroupNorm(2)(nn.Conv(width, (3, 3))(x)))
            return nn.Conv(1, (1, 1))(nn.avg_pool(x, (2, 2)))

    model, x = UNet(), jax.random.normal(KEY, (2, 8, 8, 1))
    variables = model.init(KEY, x)

    def loss(params):
        out, state = model.apply({"params": params, "batch_stats": variables["batch_stats"]}, x, mutable=["batch_stats"])
        return (out**2).mean() + 0.1 * sum(s.sum() for s in jax.tree.leaves(state))

    return loss, (variables["params"],)


def gaussian_process():
    """The negative log marginal likelihood, by a Cholesky factorisation."""
    x = jnp.linspace(0, 3, 12)
    y = jnp.sin(x * 2) + 0.1 * jnp.cos(x * 9)

    def loss(log_scale, log_length, log_noise):
        distance = (x[:, None] - x[None]) / jnp.exp(log_length)
        kernel = jnp.exp(2 * log_scale - 0.5 * distance**2) + (1e-2 + jnp.exp(log_noise)) * jnp.eye(12)
        factor = jax.scipy.linalg.cho_factor(kernel, lower=True)
        return 0.5 * y @ jax.scipy.linalg.cho_solve(factor, y) + jnp.log(jnp.diag(factor[0])).sum()

    return loss, (0.1, -0.3, -2.0)


def vision():
    """Depthwise and strided convolutions, as in MobileNet."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                y = nn.Conv(8, (3, 3), feature_group_count=x.shape[-1])(nn.silu(nn.LayerNorm()(x)))
                x = x + nn.Conv(x.shape[-1], (1, 1))(nn.gelu(y))
            x = nn.Conv(6, (3, 3), strides=(2, 2), kernel_dilation=(1, 1))(x)
            return nn.softmax(nn.Dense(3)(x.mean((1, 2))))

    model, x = Block(), jax.random.normal(KEY, (2, 6, 6, 4))
    labels = jnp.array([0, 2])
    return lambda p: optax.softmax_cross_entropy_with_integer_labels(model.apply(p, x), labels).mean(), (model.init(KEY, x),)


SLOW = [pytest.param(make, marks=pytest.mark.slow) for make in (lstm, unet, vision)]
MODELS = (nnx_transformer, ctc, equinox_gru, gaussian_process, *SLOW)


@pytest.mark.parametrize("budget", [pytest.param(None, marks=pytest.mark.slow), "min"])
@pytest.mark.parametrize("make", MODELS)
def test_value_and_gradients(make, budget):
    loss, args = make()
    argnums = tuple(range(len(args)))
    door = cg.value_and_grad(loss, argnums, budget=budget)
    ours, theirs = quick(lambda *a: (door(*a), jax.value_and_grad(loss, argnums)(*a)))(*args)
    assert_same(ours, theirs, scale=40, whole=True)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_directional_derivatives(make):
    loss, args = make()
    tangents = jax.tree.map(lambda x: jnp.cos(jnp.arange(jnp.size(x), dtype=jnp.result_type(x))).reshape(jnp.shape(x)), args)
    ours, theirs = quick(lambda a, t: (cg.jvp(loss, a, t), jax.jvp(loss, a, t)))(args, tangents)
    assert_same(ours, theirs, scale=40, whole=True)
