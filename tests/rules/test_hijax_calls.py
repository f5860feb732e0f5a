"""Primitives of `jax.experimental.hijax` with rules for tangents: reverse mode transposes what these call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import hijax

import ckptgrad as cg

HiPrimitive: Any = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive


def _through_bits(x):
    """x, by operations that have no derivative."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int32), jnp.float32)


class Doubled(HiPrimitive):
    """2 x, linear by its rule alone."""

    def __init__(self, aval):
        self.in_avals, self.out_aval, self.params = (aval,), aval, {}
        super().__init__()

    def expand(self, x):
        return 2 * _through_bits(x)

    def jvp(self, primals, tangents):
        return self(*primals), self(*tangents)


class Transposed(Doubled):
    def transpose(self, out_ct, accumulator):
        accumulator.accum(self(out_ct))


def called(kind):
    return lambda x: kind(jax.typeof(x))(x)


X = np.array([0.3, -1.7, 12.0], np.float32)


@pytest.mark.parametrize(
    ("fun", "wanted"),
    [
        (lambda x: jnp.frexp(x)[0], [2.0, 0.5, 2.0**-4]),
        (lambda x: jnp.ldexp(x, jnp.array([1, -2, 3])), [2.0, 0.25, 8.0]),
        (called(Transposed), [2.0, 2.0, 2.0]),
        (lambda x: called(Transposed)(x) * x, 4 * X),
    ],
)
@pytest.mark.parametrize("wrapped", [lambda f: f, jax.jit])
def test_both_modes(fun, wanted, wrapped):
    loss = wrapped(lambda x: jnp.sum(fun(x) * jnp.array([1.0, 2.0, 3.0])))
    weights = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(cg.grad(loss)(X), weights * wanted, rtol=1e-6)
    np.testing.assert_allclose(cg.jvp(fun, (X,), (np.ones_like(X),))[1], wanted, rtol=1e-6)
    np.testing.assert_allclose(cg.linearize(fun, X)[1](np.ones_like(X)), wanted, rtol=1e-6)


def test_without_a_transpose():
    np.testing.assert_array_equal(cg.jvp(called(Doubled), (X,), (X,))[1], 2 * X)
    with pytest.raises(NotImplementedError, match="Doubled is linear here, but does not implement `transpose`"):
        cg.grad(lambda x: jnp.sum(called(Doubled)(x)))(X)
