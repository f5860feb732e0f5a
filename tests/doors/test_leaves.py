"""Leaves of arguments: arrays and numbers, and what is said of anything else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.doors.leaves import dtype_of, float0_zeros, has_gradient

X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cg.grad(lambda x, s: x.sum(), argnums=1)(X, "text"), "'text'.*argument s of"),
        (lambda: cg.grad(lambda s: 1.0)(object()), "object"),
        (lambda: cg.vjp(lambda x, s: x, X, "text"), "'text'"),
    ],
)  # fmt: skip
def test_what_has_no_gradient_is_a_type_error(call, words):
    with pytest.raises(cg.GradientTypeError, match=f"(?s){words}") as caught:
        call()
    assert isinstance(caught.value, TypeError)


LEAVES = {
    "a number": (2.0, "float32", True),
    "an integer": (2, "int32", False),
    "a truth value": (True, "bool", False),
    "a complex array": (X * 1j, "complex64", True),
    "an array of NumPy": (np.ones(2, np.float16), "float16", True),
    "a key": (jax.random.key(0), "key<fry>", False),
    "a struct": (jax.ShapeDtypeStruct((2,), jnp.bfloat16), "bfloat16", True),
}


@pytest.mark.parametrize(("leaf", "dtype", "differentiable"), LEAVES.values(), ids=LEAVES)
def test_dtypes_and_whether_there_is_a_gradient(leaf, dtype, differentiable):
    assert str(dtype_of(leaf)) == dtype
    assert has_gradient(leaf) == differentiable


def test_the_gradient_of_an_integer_takes_no_memory():
    zeros = float0_zeros(jnp.ones((2, 3), int))
    assert (zeros.shape, zeros.dtype, zeros.nbytes) == ((2, 3), jax.dtypes.float0, 0)
