"""Gradients of Equinox modules are those of Equinox."""

from __future__ import annotations

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

MODEL = eqx.nn.MLP(4, 1, 4, 2, key=jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (3, 4))


def loss(model, x, scale=1.0):
    return scale * jnp.sum(jax.vmap(model)(x) ** 2)


@pytest.mark.parametrize("budget", [None, "min"])
def test_gradients_are_those_of_equinox(budget):
    ours = cg.eqx.filter_value_and_grad(loss, budget=budget)(MODEL, X, scale=2.0)
    assert_same(ours, eqx.filter_value_and_grad(loss)(MODEL, X, scale=2.0), scale=8)
    assert_same(cg.eqx.filter_grad(budget=budget)(loss)(MODEL, X), eqx.filter_grad(loss)(MODEL, X), scale=8)


class Normal(eqx.Module):
    norm: eqx.nn.BatchNorm
    linear: eqx.nn.Linear
    count: jax.Array

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(4, axis_name="batch", mode="ema")
        self.linear, self.count = eqx.nn.Linear(4, 1, key=key), jnp.arange(3)

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return self.linear(x) * self.count.sum(), state


def test_states_are_aux():
    def mean(model, state, x):
        y, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
        return jnp.mean(y**2), state

    def found(door, **options):
        model, state = eqx.nn.make_with_state(Normal)(jax.random.key(2))
        return door(mean, has_aux=True, **options)(model, state, X)

    assert_same(found(cg.eqx.filter_value_and_grad, budget="min"), found(eqx.filter_value_and_grad), scale=16)


def test_a_jitted_step_trains():
    optimizer = optax.sgd(0.1)

    def trained(door, **options):
        @eqx.filter_jit
        def step(model, state, x):
            value, gradient = door(loss, **options)(model, x)
            changes, state = optimizer.update(gradient, state)
            return eqx.apply_updates(model, changes), state, value

        model, state = MODEL, optimizer.init(eqx.filter(MODEL, eqx.is_inexact_array))
        for _ in range(2):
            model, state, value = step(model, state, X)
        return eqx.filter(model, eqx.is_array), value

    assert_same(trained(cg.eqx.filter_value_and_grad, budget="min"), trained(eqx.filter_value_and_grad), scale=16)


def test_plans_name_what_users_name_and_certificates_are_called_with_modules():
    door = cg.eqx.filter_value_and_grad(loss, budget="min")
    plan = door.plan(MODEL, X, 1.0)
    assert plan.program.arguments[:2] == ("model.layers[0].weight", "model.layers[0].bias")
    assert "x" in plan.program.arguments
    abstract = eqx.filter_eval_shape(lambda: MODEL)
    assert door.plan(abstract, X, 1.0).peak_bytes == plan.peak_bytes
    assert_same(door.compile(MODEL, X)(MODEL, X), door(MODEL, X), scale=8)


def test_methods_and_wrong_calls():
    class Task:
        @cg.eqx.filter_grad
        def gradient(self, scale):
            return scale

    assert Task.gradient.__name__ == "gradient"
    with pytest.raises(cg.ArgnumsError, match="is given none"):
        cg.eqx.filter_grad(loss)(model=MODEL, x=X)


def test_without_equinox(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(cg.MissingExtraError, match="equinox"):
        cg.eqx.filter_grad(loss)
