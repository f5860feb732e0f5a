"""`vjp`: any structure of outputs, pullbacks called many times, complex numbers, wrong cotangents."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from tests.cases.structures import FUNCTIONS, X, chain, cotangent
from tests.support.compare import assert_same


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
