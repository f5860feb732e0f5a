"""Gradients asked for while the functions are replaced are planned, and equal those of their libraries."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import ckptgrad as cg
from ckptgrad.scripts.planned import PlannedGradients
from tests.support.compare import assert_same

X = jnp.linspace(-1, 1, 12).reshape(3, 4)


def loss(w, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def opaque(x):
    return jax.pure_callback(lambda x: x, x, x)


W = jnp.eye(4)
CALLS = {
    "grad": lambda: jax.grad(loss)(W, X),
    "value_and_grad": lambda: jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(W, X),
    "second": lambda: jax.grad(jax.grad(lambda t: t**3))(2.0),
    "equinox": lambda: eqx.filter_value_and_grad(lambda model: loss(model, X))(W),
    "nnx": lambda: nnx.grad(lambda model: jnp.sum(model(X) ** 2))(nnx.Linear(4, 2, rngs=nnx.Rngs(0))),
    "nnx by keyword": lambda: nnx.grad(f=lambda model: jnp.sum(model(X)))(nnx.Linear(4, 2, rngs=nnx.Rngs(0))),
    "equinox in its own jit": lambda: eqx.filter_jit(lambda w: eqx.filter_grad(lambda model: loss(model, X))(w))(W),
    "nnx in its own jit": lambda: nnx.jit(lambda model: nnx.value_and_grad(lambda m: jnp.sum(m(X) ** 2))(model))(
        nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    ),
    "a decorator": lambda: nnx.grad(argnums=0)(lambda w: loss(w, X))(W),
}


def replaced():
    return jax.jit, *(m.grad for m in (jax, nnx)), *(m.value_and_grad for m in (jax, nnx)), eqx.filter_grad


@pytest.mark.parametrize("call", CALLS)
def test_planned(call):
    wanted, planned, originals = CALLS[call](), PlannedGradients({}), replaced()
    with planned.in_place():
        found = CALLS[call]()
    assert_same(found, wanted, scale=4)
    assert replaced() == originals
    (entry,) = planned.calls
    assert not entry.left
    assert (entry.certified_bytes is not None) == ("jit" in call or call == "value_and_grad")
    assert entry.peak_bytes > 0
    assert "test_planned.py" in entry.place


def test_equal_calls_are_one_entry():
    planned = PlannedGradients({})
    with planned.in_place():
        for _ in range(3):
            jax.grad(loss)(W, X)
    assert [entry.times for entry in planned.calls] == [3]


def test_what_cannot_be_planned_is_left_to_its_library():
    planned = PlannedGradients({})
    with planned.in_place():
        with pytest.raises(ValueError, match="Pure callbacks do not support"):
            jax.grad(opaque)(1.0)
        with pytest.raises(TypeError, match="scalar"):
            jax.grad(jnp.sin)(X)
        tree = nnx.grad(lambda model: jnp.sum(model(X)), graph=False)(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
    assert isinstance(tree, nnx.Linear)
    reasons = [entry.left for entry in planned.calls]
    assert ["pure_callback" in reasons[0], "scalar" in reasons[1], "no graph" in reasons[2]] == [True] * 3


def test_state_of_modules_goes_on():
    model, other, planned = (*(nnx.BatchNorm(4, rngs=nnx.Rngs(0)) for _ in range(2)), PlannedGradients({}))
    nnx.grad(lambda m: jnp.sum(m(X) ** 2))(other)
    with planned.in_place():
        nnx.grad(lambda m: jnp.sum(m(X) ** 2))(model)
    assert_same(nnx.state(model), nnx.state(other), scale=4)


def test_a_budget_that_is_too_small_is_said():
    with PlannedGradients({"budget": 10}).in_place(), pytest.raises(cg.BudgetError) as raised:
        jax.grad(loss)(W, X)
    (note,) = raised.value.__notes__
    assert "the gradient of loss" in note
    assert "test_planned.py:" in note
    assert jax.grad(loss)(W, X).shape == (4, 4)


@pytest.mark.parametrize("dry", [None, 2])
def test_a_gradient_that_no_plan_keeps_in_its_share_gets_its_smallest(dry):
    planned = PlannedGradients({"budget": "0.01x"}, dry)
    with planned.in_place():
        found = jax.grad(loss)(W, X)
    (call,) = planned.calls
    smallest = cg.grad(loss, budget="min")
    assert call.peak_bytes == (smallest.plan(W, X) if dry is None else smallest.compile(W, X).plan).peak_bytes
    assert 0 < float(call.least.removesuffix("x")) <= 1
    assert_same(found, jax.grad(loss)(W, X), scale=8)
