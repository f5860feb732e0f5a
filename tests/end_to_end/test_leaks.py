"""Under `jax.checking_leaks` nothing that is traced is left behind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import assert_same

X = jnp.linspace(0.1, 1.0, 4)


def chain(x):
    return jnp.sum(jnp.tanh(jnp.sin(x) * x) ** 2)


def scanned(x):
    return lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)[0].sum()


def planned(x):
    return cg.checkpoint(chain, policy="recompute_all")(x)


DOORS = {
    "grad": lambda f: cg.grad(f)(X),
    "jit": lambda f: jax.jit(cg.grad(f, budget="min"))(X),
    "vmap": lambda f: jax.vmap(cg.grad(f))(X[None])[0],
    "vjp": lambda f: cg.vjp(f, X)[1](jnp.float32(1))[0],
    "compile": lambda f: cg.grad(f, budget="min").compile(X)(X),
}
FUNCTIONS = [chain, pytest.param(scanned, marks=pytest.mark.slow), pytest.param(planned, marks=pytest.mark.slow)]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fun", FUNCTIONS)
def test_no_tracer_leaks(fun, door):
    with jax.checking_leaks():
        found = DOORS[door](fun)
    assert_same(found, jax.grad(fun)(X), scale=8)


def test_no_tracer_leaks_from_second_derivatives_and_checkpointed_functions():
    with jax.checking_leaks():
        twice = cg.hvp(chain, (X,), (X,))
        outside = jax.grad(cg.checkpoint(chain))(X)
    assert_same(twice, jax.jvp(jax.grad(chain), (X,), (X,))[1], scale=40)
    assert_same(outside, jax.grad(chain)(X), scale=8)
