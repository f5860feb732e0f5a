"""Functions with rules of their own, of which an axis is cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.chunks import assert_as_whole, found_for, over_chunks


@jax.custom_vjp
def scaled(x, g):
    return jnp.tanh(x) * g


def _backward(residuals, ct):
    x, g = residuals
    return 2 * ct * g, jnp.sum(ct * x, 0)


scaled.defvjp(lambda x, g: (scaled(x, g), (x, g)), _backward)


@jax.custom_vjp
def centred(x):
    return x * 1.0


centred.defvjp(lambda x: (centred(x), ()), lambda _, ct: (ct - ct.mean(0),))


@jax.custom_jvp
def doubled(x):
    return 2 * x


@doubled.defjvp
def _(primals, tangents):
    return doubled(*primals), 5 * tangents[0]  # a slope of its own, to be seen


@jax.custom_jvp
def mixed(x):
    return 2 * x


@mixed.defjvp
def _(primals, tangents):
    return mixed(*primals), tangents[0] - tangents[0].mean(0)


X = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("fun", [lambda x: scaled(x, x[0] * 0 + 1), centred, mixed])
def test_rules_that_mix_entries_are_refused(fun):
    with jax.enable_x64():
        assert found_for(fun, (jnp.asarray(X),), {0: 0}) is None


def test_the_users_rule_is_kept():
    fun = lambda x, g: jnp.sum(doubled(x)) + jnp.sum(scaled(x, g) ** 2) + jnp.sum(jax.nn.relu(x))
    with jax.enable_x64():
        args = jnp.asarray(X), jnp.asarray(X[0])
        found = found_for(fun, args, {0: 0})
        assert found is not None
        assert_as_whole(found, fun, args, gradients=True)
        ours = cg.grad(lambda *xs: over_chunks(found, xs, 3)[0], argnums=(0, 1))(*args)
        for a, b in zip(ours, jax.grad(fun, (0, 1))(*args), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_rule_is_differentiated_again():
    fun = lambda x: jnp.sum(jnp.sum(jax.nn.relu(x) * jax.nn.silu(x), 1) ** 2)
    with jax.enable_x64():
        x = jnp.asarray(X)
        found = found_for(fun, (x,), {0: 0})
        assert found is not None
        slope = lambda f: jax.grad(lambda x: jnp.sum(jnp.sin(jax.grad(f)(x))))(x)
        np.testing.assert_allclose(slope(lambda x: over_chunks(found, (x,), 3)[0]), slope(fun), rtol=1e-12)
