"""Arguments that have no gradient are refused by name, dtype and remedy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

X = jnp.array([1.0, 2.0])


def total(x):
    return jnp.sum(x * x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cg.grad(total)(jnp.arange(3)), "int32.*allow_int"),
        (lambda: cg.grad(total)(3), "int32.*allow_int"),
        (lambda: cg.grad(lambda x: 1.0)(jax.random.key(0)), "key.*allow_int"),
        (lambda: cg.grad(total)(X > 0), "bool.*allow_int"),
        (lambda: cg.grad(total)(X * 1j), "complex64.*holomorphic"),
        (lambda: cg.grad(total, holomorphic=True)(X), "complex.*float32"),
    ],
)  # fmt: skip
def test_what_has_no_gradient_is_a_type_error(call, words):
    with pytest.raises(cg.GradientTypeError, match=f"(?s){words}") as caught:
        call()
    assert isinstance(caught.value, TypeError)
