"""What has no derivative is refused, as JAX does, with the line and the remedy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg

REFUSED = {
    "schur": lambda x: lax.linalg.schur(x)[0],
    "hessenberg": lambda x: lax.linalg.hessenberg(x)[0],
    "tridiagonal": lambda x: lax.linalg.tridiagonal(x)[1],
    "householder_product": lambda x: lax.linalg.householder_product(x, x[0]),
    "igamma_grad_a": lambda x: lax.igamma_grad_a(x, x),
    "pure_callback": lambda x: jax.pure_callback(np.sin, x, x),
    "regularized_incomplete_beta": lambda x: lax.betainc(x, x, x),
    "zeta": lambda x: lax.zeta(x, x),
}


@pytest.mark.parametrize(("name", "fun"), REFUSED.items(), ids=REFUSED)
def test_what_is_refused_is_refused_by_jax_too(name, fun):
    x = jnp.eye(3) / 2 + 0.2
    with pytest.raises(cg.NoDerivativeError, match=name):
        cg.vjp(fun, x)[1](fun(x))
    with pytest.raises((NotImplementedError, ValueError)):
        jax.vjp(fun, x)[1](fun(x))


def test_a_refusal_names_the_line_and_the_remedy():
    with pytest.raises(cg.NoDerivativeError, match=r"schur.*test_refused\.py.*stop_gradient"):
        cg.grad(lambda x: REFUSED["schur"](x).sum())(jnp.eye(3))
