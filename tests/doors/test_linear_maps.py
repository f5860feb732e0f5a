"""Pullbacks and linearized functions: as pytrees, and where tangents or cotangents do not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.doors.linear_maps import Closure, Linearized, Pullback, instantiated
from ckptgrad.errors import GradientTypeError, MismatchError
from tests.support.compare import assert_same, quick

X, N = jnp.array([0.4, -1.1, 2.0]), jnp.arange(2)
FLOAT0 = np.zeros(2, jax.dtypes.float0)


def fun(d, n):
    return {"y": jnp.sin(d["x"]) * d["x"][n[0]], "n": n + 1}


def test_a_closure_becomes_a_program_when_it_is_flattened():
    traced = []

    def run(a):
        traced.append(1)
        return [a * X, None]

    closure = Closure(run, [jax.ShapeDtypeStruct((3,), jnp.float32)])
    (scaled, nothing) = closure(X)
    assert nothing is None
    assert_same(scaled, X * X)
    arrays, program = closure.tree_flatten()
    count = len(traced)
    assert closure.tree_flatten() == (arrays, program)
    assert len(traced) == count
    doubled = Closure.tree_unflatten(program, [2 * a for a in arrays])
    assert_same(doubled(X)[0], 2 * X * X)
    # What holds the program, as treedefs and caches do, holds no arrays.
    assert program.consts == [None] * len(arrays)


@pytest.mark.parametrize("kind", [Pullback, pytest.param(Linearized, marks=pytest.mark.slow)])
def test_linear_maps_pass_through_jit_and_keep_their_ends(kind):
    primals = {"x": X}, N
    make = (lambda: cg.vjp(fun, *primals)[1]) if kind is Pullback else (lambda: cg.linearize(fun, *primals)[1])
    args = ({"y": X, "n": FLOAT0},) if kind is Pullback else ({"x": X}, FLOAT0)
    outside = make()
    inside = quick(make)()
    assert isinstance(inside, kind)
    assert_same(inside(*args), outside(*args), scale=4)
    # The arrays that it holds are its leaves.
    nothing = jax.tree.map(lambda x: 0 * x, outside)
    assert not any(np.any(x) for x in jax.tree.leaves(nothing(*args)) if x.dtype != jax.dtypes.float0)


def test_integers_have_cotangents_and_tangents_of_float0():
    by_d, by_n = cg.vjp(fun, {"x": X}, N)[1]({"y": X, "n": FLOAT0})
    assert by_d["x"].dtype == jnp.float32
    assert (by_n.shape, by_n.dtype) == ((2,), jax.dtypes.float0)
    pushed = cg.linearize(fun, {"x": X}, N)[1]({"x": X}, FLOAT0)
    assert (pushed["n"].shape, pushed["n"].dtype) == ((2,), jax.dtypes.float0)


def test_an_output_that_is_returned_twice_gets_the_sum_of_its_cotangents():
    _, pull = cg.vjp(lambda x: [jnp.sin(x)] * 2, X)
    assert_same(pull([X, 2 * X])[0], 3 * X * jnp.cos(X), scale=4)


WRONG_COTANGENTS = [
    ([X], MismatchError, "unexpected tree structure: the cotangent has"),
    ({"y": X[:2], "n": FLOAT0}, MismatchError, r"got float32\[2\] for the cotangent of result\['y'\] of fun"),
    ({"y": N, "n": FLOAT0}, MismatchError, r"got int32\[2\]"),
    ({"y": "text", "n": FLOAT0}, GradientTypeError, "'text' of type <class 'str'> is not a valid JAX type"),
]


@pytest.mark.parametrize(("ct", "error", "words"), WRONG_COTANGENTS)
def test_a_cotangent_that_does_not_fit_is_named(ct, error, words):
    with pytest.raises(error, match=words):
        cg.vjp(fun, {"x": X}, N)[1](ct)


def test_several_cotangents_are_refused():
    with pytest.raises(GradientTypeError, match="was called with 2 arguments, but it takes one cotangent"):
        cg.vjp(fun, {"x": X}, N)[1]({"y": X, "n": FLOAT0}, X)


WRONG_TANGENTS = [
    (({"x": X},), MismatchError, "the tangents have"),
    (({"x": X[:2]}, FLOAT0), MismatchError, r"got float32\[2\] for the tangent of the primal d\['x'\] of fun"),
    (({"x": X}, N), MismatchError, r"the tangent of the primal n of fun.*, which is int32, must have dtype float0"),
]


@pytest.mark.parametrize(("tangents", "error", "words"), WRONG_TANGENTS)
def test_a_tangent_that_does_not_fit_is_named(tangents, error, words):
    with pytest.raises(error, match=words):
        cg.linearize(fun, {"x": X}, N)[1](*tangents)


def test_no_tangent_is_zero():
    assert_same(instantiated(None, jax.typeof(X)), 0 * X)
    assert instantiated(None, jax.typeof(N)).dtype == jax.dtypes.float0
