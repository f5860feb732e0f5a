"""Gradients through custom rules, control flow and the user's own checkpoints, against JAX's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from tests.cases.nested import ALL, V, W
from tests.support.compare import assert_same, quick


@pytest.mark.parametrize("fun", ALL.values(), ids=ALL)
def test_value_and_gradient(fun):
    assert_same(cg.value_and_grad(fun)(V), jax.value_and_grad(fun)(V), scale=4)


# Of a custom_vjp rule that is no derivative of anything the second order is the derivative of the rule.
@pytest.mark.parametrize("fun", ALL.values(), ids=ALL)
def test_second_order(fun):
    def ours(x):
        return jnp.sum(cg.grad(fun)(x) * jnp.arange(1.0, 6.0))

    def theirs(x):
        return jnp.sum(jax.grad(fun)(x) * jnp.arange(1.0, 6.0))

    assert_same(quick(cg.grad(ours))(V), quick(jax.grad(theirs))(V), scale=20)


@pytest.mark.parametrize("fun", ALL.values(), ids=ALL)
def test_under_jit_and_vmap(fun):
    batch = jnp.stack([V, V * 0.5 - 0.1, -V])
    assert_same(quick(jax.vmap(cg.grad(fun)))(batch), quick(jax.vmap(jax.grad(fun)))(batch), scale=20)


def test_a_long_scan_sums_the_gradient_of_its_constants():
    def fun(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(w @ c), None), x, None, length=50)[0].sum()

    assert_same(cg.grad(fun)(W, V[:2]), jax.grad(fun)(W, V[:2]), scale=20)
