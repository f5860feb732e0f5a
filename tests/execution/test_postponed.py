"""Products that make gradients of arguments: which may wait, that they give the same, and what a step holds then."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ckptgrad as cg
from ckptgrad.execution.postponed import postponed
from ckptgrad.graph.traits import is_product, is_same_numbers
from ckptgrad.target.attached import attached
from ckptgrad.target.platform import Isolation
from tests.support.targets import compile_only

WIDTH = 16


def chain(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return (x**2).mean()


def arguments(rows, layers=3):
    keys = jax.random.split(jax.random.key(0), layers + 1)
    return [jax.random.normal(k, (WIDTH, WIDTH)) / 4 for k in keys[1:]], jax.random.normal(keys[0], (rows, WIDTH))


def waiting(fun, *args):
    """Of each backward of `fun`, with stages as they are, what may wait."""
    plan = cg.plan(fun, *args, policy="store_all")
    runs = [(kind, kind.options[0].partition.backward_run) for kind in plan.program.kinds]
    return [postponed(run, {*run.makes} - {*kind.crossing}, kind.target) for kind, run in runs]


@pytest.mark.parametrize(("rows", "wait"), [(4, True), (WIDTH, False)])
def test_a_product_waits_where_its_operands_take_fewer_bytes(rows, wait):
    found = waiting(chain, *arguments(rows))
    assert all(bool(run.makes) is wait for run in found)
    assert all(is_product(op) or is_same_numbers(op) for run in found for op in run.operations)


def test_a_gradient_that_is_read_inside_does_not_wait():
    (w,), x = arguments(4, layers=1)
    clipped = jax.custom_vjp(lambda w: w)
    clipped.defvjp(lambda w: (w, None), lambda _, g: (g / jnp.sqrt((g**2).sum()),))
    assert not any(run.makes for run in waiting(lambda w, x: chain([clipped(w)], x), w, x))
    assert any(run.makes for run in waiting(lambda w, x: chain([w], x), w, x))


@pytest.mark.parametrize("budget", [None, "min"])
def test_gradients_are_the_same(budget):
    """On this device, with stages isolated as for GPUs; the last two layers share their weights."""
    target = attached()
    target = replace(target, platform=replace(target.platform, isolation=Isolation.WHOLE))
    ws, x = arguments(4)

    def loss(ws, x):
        return chain([*ws, ws[-1]], x)

    value, gradients = cg.value_and_grad(loss, (0, 1), budget=budget, target=target)(ws, x)
    expected_value, expected = jax.value_and_grad(loss, (0, 1))(ws, x)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [optax.sgd(1e-3), optax.adam(1e-3)], ids=["sgd", "adam"])
def test_a_step_with_an_ordinary_optimizer_does_not_hold_all_gradients(optimizer):
    target = compile_only("h100")
    side = 512
    params, x = [jax.ShapeDtypeStruct((side, side), jnp.float32)] * 6, jax.ShapeDtypeStruct((64, side), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)

    def temporaries(value_and_grad):
        def step(params, state, x):
            value, gradients = value_and_grad(params, x)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        return cg.certify(step, params, state, x, donate_argnums=(0, 1), target=target).temporary_bytes

    theirs = temporaries(jax.value_and_grad(chain))
    assert temporaries(cg.value_and_grad(chain, budget="min", target=target)) < 1.25 * theirs
