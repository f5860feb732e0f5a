"""Results that have no gradient are refused, in the words of JAX."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.outputs import check_are_arrays, check_real_outputs, check_scalar, output_and_aux

X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cg.grad(lambda x: x)(X), r"scalar-output.*\(2,\).*vjp"),
        (lambda: cg.grad(lambda x: (x.sum(), x))(X), r"scalar-output.*tuple.*has_aux"),
        (lambda: cg.grad(lambda x: None)(X), "NoneType"),
        (lambda: cg.grad(lambda x: x.sum(), has_aux=True)(X), "two-element tuple"),
        (lambda: cg.grad(lambda x: (x.sum(), 1, 2), has_aux=True)(X), "two-element tuple"),
        (lambda: cg.grad(lambda x: jnp.argmax(x))(X), "real-valued outputs.*int32"),
        (lambda: cg.grad(lambda z: jnp.abs(z).sum(), holomorphic=True)(X * 1j), "outputs with complex dtype"),
        (lambda: cg.grad(lambda x: x.sum() * 1j)(X), "complex64"),
    ],
)  # fmt: skip
def test_what_has_no_gradient_is_a_type_error(call, words):
    with pytest.raises(cg.GradientTypeError, match=f"(?s){words}") as caught:
        call()
    assert isinstance(caught.value, TypeError)


def model(x):
    return x


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [((1,), r"output\.reshape\(\(\)\) or output\[0\]$"), ((1, 1), r"output\.reshape\(\(\)\)$"), ((2,), r"ckptgrad\.vjp$")],
)
def test_an_array_of_one_number_is_told_how_to_become_a_scalar(shape, remedy):
    with pytest.raises(cg.GradientTypeError, match=remedy):
        check_scalar(jnp.ones(shape), model, holomorphic=False)


def test_scalars_are_taken():
    check_scalar(jnp.float32(1), model, holomorphic=False)
    check_scalar(jnp.complex64(1), model, holomorphic=True)


def test_the_leaf_is_named():
    with pytest.raises(cg.GradientTypeError, match=r"'text'.*result\['b'\]\[1\] of model \("):
        check_are_arrays({"a": X, "b": (1.0, "text")}, model)
    with pytest.raises(cg.GradientTypeError, match=r"jacrev requires real.* got int32 for result\['b'\] of model \("):
        check_real_outputs({"a": X, "b": jnp.arange(2)}, model, holomorphic=False, door="jacrev")


def test_a_pair_may_be_a_list():
    assert output_and_aux([1.0, "aux"], model) == (1.0, "aux")
