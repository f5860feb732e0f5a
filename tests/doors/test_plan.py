"""`cg.plan`: what `value_and_grad` would do, for arrays or their shapes, without running anything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

X, W = jnp.ones((64, 8)), jnp.eye(8)


def loss(x, w):
    for _ in range(4):
        x = jnp.tanh(x @ w)
    return x.sum()


@pytest.mark.parametrize("options", [{}, {"budget": "min"}, {"argnums": (0, 1), "policy": "recompute_all"}])
def test_shapes_are_enough_and_the_plan_is_that_of_the_gradient(options):
    plan = cg.plan(loss, X, W, **options)
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, W)]
    for other in (cg.plan(loss, *structs, **options), cg.value_and_grad(loss, **options).plan(X, W)):
        assert (other.schedule, other.peak_bytes, other.budget) == (plan.schedule, plan.peak_bytes, plan.budget)


def test_nothing_runs():
    ran = []

    def talking(x):
        jax.debug.callback(ran.append, x.sum())
        return x.sum()

    cg.plan(talking, X)
    jax.effects_barrier()
    assert ran == []


def test_gradients_are_counted_by_argnums():
    one, both = (cg.plan(loss, X, W, argnums=argnums).program.gradient_bytes for argnums in (1, (0, 1)))
    assert (one, both) == (W.nbytes, X.nbytes + W.nbytes)
