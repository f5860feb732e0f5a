"""Linear maps that carry their transposes: under every transformation of JAX, and in this engine."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.loops.linear import Pair, linear
from tests.support.compare import assert_same, quick

R, X, CT = jnp.array([2.0, -1.0, 0.5]), jnp.array([1.0, 3.0, -2.0]), jnp.array([0.5, 1.0, 2.0])
AVAL = jax.typeof(X)


def cumulative(r, x):
    return [jnp.cumsum(r * x)]


def transposed(r, ct):
    return [r * jnp.flip(jnp.cumsum(jnp.flip(ct)))]


def pair(proved=True, transpose=transposed):
    return Pair(1, cumulative, transpose, cumulative, transposed, (AVAL,), (AVAL,), proved)


PROVED = pytest.mark.parametrize("proved", [True, False])


@PROVED
def test_the_map_and_its_derivatives_in_jax(proved):
    fun = lambda r, x: linear(pair(proved), [r], [x])[0]
    plain = lambda r, x: cumulative(r, x)[0]

    def results(f):
        pushed = [jax.jvp(f, (R, X), tangents)[1] for tangents in [(R, X), (R, 0 * X), (0 * R, X)]]
        return f(R, X), jax.vjp(f, R, X)[1](CT), pushed

    assert_same(*quick(lambda: (results(fun), results(plain)))(), scale=4)


@PROVED
def test_its_derivatives_in_this_engine(proved):
    fun = lambda r, x: (linear(pair(proved), [r], [x])[0] * CT).sum()
    wanted = jax.grad(lambda r, x: (cumulative(r, x)[0] * CT).sum(), (0, 1))
    assert_same(*quick(lambda: (cg.grad(fun, (0, 1))(R, X), wanted(R, X)))(), scale=4)


def test_a_proved_pair_is_transposed_by_what_it_carries():
    """And only what is read is differentiated by the definition."""
    ten = pair(transpose=lambda r, ct: [10 * ct])
    fun = lambda r, x: (linear(ten, [r], [x])[0] * CT).sum()
    by_r = R * 0 + X * jnp.flip(jnp.cumsum(jnp.flip(CT)))
    for gradients in quick(lambda: [grad(fun, (0, 1))(R, X) for grad in (jax.grad, cg.grad)])():
        assert_same(gradients, (by_r, 10 * CT))


def test_transposed_twice_it_is_the_map_again():
    swapped = pair().swapped
    assert (swapped.run, swapped.transpose) == (transposed, cumulative)
    np.testing.assert_allclose(linear(swapped.swapped, [R], [X])[0], cumulative(R, X)[0])
    back = jax.linear_transpose(lambda ct: linear(swapped, [R], [ct])[0], CT)
    np.testing.assert_allclose(back(X)[0], cumulative(R, X)[0])


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (None, 1)])
def test_batches(axes):
    r = jnp.stack([R, 2 * R]) if axes[0] is not None else R
    x = X if axes[1] is None else jnp.stack([X, -X], axes[1])
    fun = lambda r, x: linear(pair(), [r], [x])[0]

    def gradients(f):
        return jax.vmap(jax.grad(lambda r, x: (f(r, x) * CT).sum(), (0, 1)), axes)(r, x)

    assert_same(*quick(lambda: (gradients(fun), gradients(lambda r, x: cumulative(r, x)[0])))(), scale=4)
