"""Transposition of linear functions whose outputs occur twice, are arguments, or are not there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.autodiff.transpose import transposed

X, A, B = (jnp.array(a) for a in ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], [4.0, 5.0, 6.0]))
AVAL = jax.typeof(X)


def both(t, u):
    return t + 2.0 * u


# Functions of two tangents, the cotangents of their results, and what comes back.
LINEAR = {
    "one output twice": (lambda t, u: [t, t], [A, B], [A + B, None]),
    "a result twice": (lambda t, u: [both(t, u)] * 2, [A, B], [A + B, 2 * (A + B)]),
    "three times": (lambda t, u: [3.0 * t, t, t], [A, B, X], [3 * A + B + X, None]),
    "exchanged": (lambda t, u: [u, t], [A, B], [B, A]),
    "a zero result": (lambda t, u: [None, t], [A, B], [B, None]),
    "a zero cotangent": (lambda t, u: [t, both(t, u)], [A, None], [A, None]),
    "the second of two cotangents": (lambda t, u: [t, 3.0 * u], [None, B], [None, 3 * B]),
    "a constant result": (lambda t, u: [jnp.zeros(3), u], [A, B], [None, B]),
}


@pytest.mark.parametrize(("fun", "cotangents", "wanted"), LINEAR.values(), ids=LINEAR)
def test_cotangents(fun, cotangents, wanted):
    found = transposed(fun, [AVAL, AVAL], [True, True], cotangents)
    assert [f is None for f in found] == [w is None for w in wanted]
    for f, w in zip(found, wanted, strict=True):
        if w is not None:
            np.testing.assert_allclose(f, w, rtol=1e-6)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_arguments_without_a_tangent_have_no_cotangent(wanted):
    given = []

    def fun(*tangents):
        given[:] = [t is not None for t in tangents]
        return [5.0 * t for t in tangents if t is not None]

    found = transposed(fun, [AVAL, AVAL], wanted, [A])
    assert [f is not None for f in found] == given == [*wanted]
    np.testing.assert_allclose(found[wanted.index(True)], 5 * A)
