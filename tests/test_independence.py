"""The engine differentiates by itself: it never calls JAX's differentiation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

FORBIDDEN = ["grad", "value_and_grad", "vjp", "jvp", "linearize", "checkpoint", "jacrev", "jacfwd", "linear_transpose"]


@jax.custom_jvp
def own_jvp(x):
    return jnp.tanh(x)


@own_jvp.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return own_jvp(x), t * (1 - jnp.tanh(x) ** 2)


@jax.custom_vjp
def own_vjp(x):
    return jnp.sin(x)


own_vjp.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))


def loss(w, x):
    x = own_vjp(own_jvp(x @ w))
    x, _ = jax.lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, None, length=3)
    x = jax.lax.cond(x[0, 0] > 0, jax.nn.relu, jax.nn.gelu, x)
    return jax.nn.logsumexp(jnp.sort(x, -1)[:, 1:]).sum()


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "optimal"])
def test_the_engine_never_calls_the_differentiation_of_jax(policy, monkeypatch):
    w, x = jnp.eye(4) / 2, jnp.linspace(-1, 1, 12).reshape(3, 4)
    wanted = jax.grad(loss)(w, x)

    def refuse(*args, **kwargs):
        raise AssertionError("JAX's differentiation was called")

    for name in FORBIDDEN:
        monkeypatch.setattr(jax, name, refuse)
    found = cg.grad(loss, policy=policy)(w, x)
    assert jnp.allclose(found, wanted, rtol=1e-5, atol=1e-6)
