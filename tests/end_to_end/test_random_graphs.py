"""Random graphs of about twenty operations, in double precision, against JAX's reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import ckptgrad as cg
from tests.support.compare import assert_same, quick

UNARY: list[Callable] = [
    jnp.sin, jnp.tanh, jax.nn.relu, jax.nn.softplus, lambda x: x * x, lambda x: -x, jnp.arctan,
    lambda x: jnp.cumsum(x) / 3, lambda x: x[::-1], lambda x: jnp.sort(x), jax.nn.softmax,
    lambda x: jnp.broadcast_to(x.mean(), x.shape), lambda x: jnp.concatenate([x[1:], x[:1]]),
    lambda x: jax.jit(jnp.exp)(-x * x), lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    lambda x: lax.scan(lambda c, v: (jnp.tanh(c + v), c), 0.1, x)[1], jax.checkpoint(lambda x: jnp.cos(x) * x),
    lambda x: jnp.linalg.solve(jnp.outer(x, x) + 3 * jnp.eye(4), x), lambda x: jnp.linalg.cholesky(jnp.diag(x * x + 1))[0],
    lambda x: jnp.linalg.eigvalsh(jnp.outer(x, x) + jnp.diag(jnp.arange(4.0))), lambda x: jnp.fft.rfft(x, 6).real,
    lambda x: lax.stop_gradient(x) * 0.5 + x, lambda x: jnp.where(x > 0.1, x, jnp.sin(x)), lambda x: x.at[1].mul(2.0),
]  # fmt: skip
BINARY: list[Callable] = [
    jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, lambda x, y: x / (1 + y * y),
    jnp.arctan2, jnp.logaddexp, lambda x, y: jnp.outer(jnp.tanh(x), y) @ x, lambda x, y: x * y.sum() / 4,
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A straight-line program: each step names an operation and earlier values by their positions."""

    steps: tuple[tuple[int, int, int], ...]
    last: int

    def __call__(self, *inputs):
        values = list(inputs)
        for which, i, j in self.steps:
            x, y = values[i % len(values)], values[j % len(values)]
            values.append(UNARY[which](x) if which < len(UNARY) else BINARY[which - len(UNARY)](x, y))
        return sum(v.mean() for v in values[-self.last :])


number = st.integers(0, 40)
recipes = st.builds(
    Recipe,
    st.lists(st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), number, number), min_size=12, max_size=24).map(tuple),
    st.integers(1, 4),
)
points = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).normal(size=(3, 4)))


@given(recipes, points)
@pytest.mark.usefixtures("x64")
def test_gradients_of_random_graphs(recipe, point):
    xs = [jnp.asarray(p) for p in point]
    wanted = quick(jax.value_and_grad(recipe, argnums=(0, 1, 2)))(*xs)
    assert_same(quick(cg.value_and_grad(recipe, argnums=(0, 1, 2)))(*xs), wanted, scale=100)
    assert_same(quick(cg.value_and_grad(recipe, argnums=(0, 1, 2), budget="min"))(*xs), wanted, scale=100)


@given(recipes, points)
@settings(max_examples=10)
@pytest.mark.usefixtures("x64")
def test_forward_mode_of_random_graphs(recipe, point):
    xs = tuple(jnp.asarray(p) for p in point)
    ours, theirs = quick(lambda *t: (cg.jvp(recipe, xs, t), jax.jvp(recipe, xs, t)))(*(jnp.cos(x) for x in xs))
    assert_same(ours, theirs, scale=100)


@given(recipes, points)
@settings(max_examples=5)
@pytest.mark.usefixtures("x64")
def test_jacobians_of_random_graphs(recipe, point):
    """The gradient of a random graph is a function from vectors to vectors."""
    xs = [jnp.asarray(p) for p in point]
    ours, theirs = quick(lambda *xs: (cg.jacobian(cg.grad(recipe))(*xs), jax.jacfwd(jax.grad(recipe))(*xs)))(*xs)
    assert_same(ours, theirs, scale=1000)
