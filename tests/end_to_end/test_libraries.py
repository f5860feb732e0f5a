"""Flax and Equinox models, and a step of optax."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same, quick

X = jax.random.normal(jax.random.key(1), (8, 16))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = x + nn.Dense(16)(nn.gelu(nn.LayerNorm()(x)))
        return nn.Dense(1)(x)


def flax_loss():
    model = Residual()
    return lambda params, x: (model.apply(params, x) ** 2).mean(), model.init(jax.random.key(0), X)


def equinox_loss():
    model = eqx.nn.MLP(16, 1, 32, 4, activation=jax.nn.silu, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)
    return lambda params, x: (jax.vmap(eqx.combine(params, static))(x) ** 2).mean(), params


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize("make", [flax_loss, equinox_loss])
def test_gradients_and_a_step_equal_those_with_jax(make, budget):
    loss, params = make()
    optimizer = optax.adamw(1e-3)

    def step(value_and_grad):
        value, gradients = value_and_grad(params, X)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return value, gradients, jax.tree.map(jnp.add, params, updates)

    ours = quick(lambda: step(cg.value_and_grad(loss, budget=budget)))()
    theirs = quick(lambda: step(jax.value_and_grad(loss)))()
    assert_same(ours[:2], theirs[:2], scale=20)
    # Adam's first step divides each gradient by its own size, so where a gradient is rounding error, the step is arbitrary.
    assert jax.tree.structure(ours[2]) == jax.tree.structure(theirs[2])
    for our_params, their_params, gradient in zip(*map(jax.tree.leaves, (ours[2], theirs[2], theirs[1])), strict=True):
        significant = abs(gradient) > 1e-4
        assert_same(our_params[significant], their_params[significant], scale=20)
