"""Gradients of gradients, with either engine outside; Hessians; Jacobians of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same, quick


def energy(x):
    return jnp.sum(jnp.tanh(x) ** 3) * jnp.exp(x[0]) + jax.nn.logsumexp(x * x)


POINT = jnp.array([0.3, -1.2, 0.8])
SUMS = {
    "ours twice": lambda: cg.grad(lambda x: cg.grad(energy)(x).sum()),
    "JAX's reverse over ours": lambda: jax.grad(lambda x: cg.grad(energy)(x).sum()),
    "ours over JAX's reverse": lambda: cg.grad(lambda x: jax.grad(energy)(x).sum()),
    "ours over a jit of ours": lambda: cg.grad(lambda x: jax.jit(cg.grad(energy))(x).sum()),
    "jit of all": lambda: jax.jit(cg.grad(lambda x: cg.grad(energy)(x).sum())),
}


@pytest.mark.parametrize("make", SUMS.values(), ids=SUMS)
@pytest.mark.usefixtures("x64")
def test_the_sum_of_the_hessian(make):
    x = jnp.asarray(POINT, jnp.float64)
    assert_same(quick(make())(x), quick(jax.hessian(energy))(x).sum(0), scale=10)


@pytest.mark.usefixtures("x64")
def test_hessians():
    x = jnp.asarray(POINT, jnp.float64)
    wanted = quick(jax.hessian(energy))(x)
    assert_same(quick(jax.jacfwd(cg.grad(energy)))(x), wanted, scale=10)
    assert_same(quick(jax.jacrev(cg.grad(energy)))(x), wanted, scale=10)
    rows = quick(jax.vmap(lambda i: cg.grad(lambda y: cg.grad(energy)(y)[i])(x)))(jnp.arange(3))
    assert_same(rows, wanted, scale=10)


@pytest.mark.usefixtures("x64")
def test_third_and_fourth_order():
    ours, theirs, x = jnp.sin, jnp.sin, jnp.float64(0.4)
    for _ in range(4):
        ours, theirs = cg.grad(ours), jax.grad(theirs)
        assert_same(quick(ours)(x), theirs(x), scale=10)


def test_directional_derivative_of_a_gradient():
    direction = jnp.array([1.0, 2.0, -1.0])
    found = jax.jvp(cg.grad(energy), (POINT,), (direction,))
    assert_same(found, jax.jvp(jax.grad(energy), (POINT,), (direction,)), scale=10)
