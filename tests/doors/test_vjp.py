"""`vjp`: any structure of outputs, pullbacks called many times, complex numbers, wrong cotangents."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

X, Y = jnp.array([0.4, -1.1, 2.0]), jnp.array([[0.2, 0.1, -0.3]])
Z = X + 1j * X[::-1]


def chain(x, n=5):
    for _ in range(n):
        x = x + jnp.sin(x) * jnp.cumsum(x)
    return x


FUNCTIONS = {
    "array": (lambda x: chain(x), (X,)),
    "dict": (lambda x, y: {"a": chain(x) * y, "b": (y.sum(), None)}, (X, Y)),
    "matrix": (lambda x, y: jnp.outer(x, y) @ chain(x), (X, Y)),
    "integers out": (lambda x: (chain(x), jnp.argmax(x), x > 0), (X,)),
    "integers in": (lambda x, i: chain(x)[i], (X, jnp.array([2, 0]))),
    "key in": (lambda x, k: chain(x) * jax.random.normal(k, x.shape), (X, jax.random.key(0))),
    "pytree in": (lambda d: chain(d["x"]) * d["y"][0], ({"x": X, "y": (Y, None)},)),
    "an output twice": (lambda x: [chain(x)] * 2, (X,)),
    "an input as output": (lambda x, y: (x, chain(x), y), (X, Y)),
    "a constant as output": (lambda x: (jnp.ones(2), chain(x), 1.0), (X,)),
    "nothing differentiable": (lambda x: (jnp.floor(x), jnp.argmax(x)), (X,)),
    "complex": (lambda z: jnp.exp(z) * z.conj() + jnp.abs(z), (Z,)),
    "real to complex": (lambda x: jnp.fft.rfft(chain(x)), (X,)),
    "complex to real": (lambda z: jnp.real(z * z).sum() + jnp.imag(z), (Z,)),
    "no arguments needed": (lambda x, y: chain(y), (X, Y)),
}


def cotangent(value, seed):
    """Random cotangents of an output, float0 where JAX wants it."""
    rng = np.random.default_rng(seed)

    def leaf(v):
        if not jnp.issubdtype(v.dtype, jnp.inexact):
            return np.zeros(v.shape, jax.dtypes.float0)
        ct = rng.normal(size=v.shape) + (1j * rng.normal(size=v.shape) if v.dtype.kind == "c" else 0)
        return jnp.asarray(ct, v.dtype)

    return jax.tree.map(leaf, jax.tree.map(jnp.asarray, value))


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize(("fun", "args"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_vjp_and_a_pullback_called_twice(fun, args, budget):
    value, pullback = cg.vjp(fun, *args, budget=budget)
    wanted, reference = jax.vjp(fun, *args)
    assert_same(jax.tree.map(jnp.asarray, value), jax.tree.map(jnp.asarray, wanted), scale=4)
    first, second = cotangent(wanted, 1), cotangent(wanted, 2)
    for ct in (first, second, first):
        assert_same(pullback(ct), reference(ct), scale=10)


def test_aux_passes_through():
    value, pullback, aux = cg.vjp(lambda x: (chain(x), {"n": x[0]}), X, has_aux=True)
    assert_same(aux, {"n": X[0]})
    assert_same(pullback(value), jax.vjp(chain, X)[1](value), scale=4)


def test_pullback_under_jit_and_vmap():
    _, pullback = cg.vjp(chain, X, budget="min")
    _, reference = jax.vjp(chain, X)
    basis = jnp.eye(3)
    assert_same(jax.vmap(pullback)(basis), jax.vmap(reference)(basis), scale=10)
    assert_same(jax.jit(pullback)(X), reference(X), scale=10)


def test_a_whole_jacobian_by_rows():
    def rows(x):
        _, pullback = cg.vjp(chain, x)
        return jax.vmap(pullback)(jnp.eye(3))[0]

    assert_same(jax.jit(rows)(X), jax.jacrev(chain)(X), scale=10)


WRONG = {
    "structure": ((X, X), r"structure"),
    "missing leaf": ({"a": X}, r"structure"),
    "shape": ({"a": X[:2], "b": X}, r"float32\[2\].*float32\[3\]"),
    "dtype": ({"a": X.astype(jnp.bfloat16), "b": X}, r"bfloat16"),
    "complex": ({"a": X * 1j, "b": X}, r"complex64"),
}


@pytest.mark.parametrize(("ct", "words"), WRONG.values(), ids=WRONG)
def test_wrong_cotangents_are_refused(ct, words):
    _, pullback = cg.vjp(lambda x: {"a": x, "b": chain(x)}, X)
    with pytest.raises(cg.GradientTypeError, match=f"(?s){words}") as caught:
        pullback(ct)
    assert isinstance(caught.value, TypeError)
