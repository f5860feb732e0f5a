"""Forward mode by the same rules: what each row of `tests/cases/rules.py` buys besides reverse mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_jvp, check_vjp

import ckptgrad as cg
from ckptgrad.autodiff.of_function import pushed_forward
from tests.cases import Case
from tests.cases.rules import CASES
from tests.support.engine import arguments, assert_close, compiled, cotangents, flat, inner, jax_gradient, like, our_gradient


def rows(condition):
    chosen = [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.slow else []) for c in CASES if condition(c)]
    return pytest.mark.parametrize("case", chosen)


def our_tangents(case: Case, args, tangents):
    """Tangents of the outputs by ckptgrad, zeros made."""
    found = pushed_forward(flat(case), args, tangents)
    outputs = jax.eval_shape(flat(case), *args)
    return [jnp.zeros(y.shape, y.dtype) if t is None else t for t, y in zip(found, outputs, strict=True)]


@rows(lambda c: c.in_jax)
def test_forward_mode_as_jax(case: Case):
    args = arguments(case, np.float32)

    @compiled
    def both(args, tangents):
        return our_tangents(case, args, tangents), jax.jvp(flat(case), args, tangents)[1]

    ours, theirs = both(args, like(args, seed=3))
    assert_close(ours, theirs, 1e-5)


@pytest.mark.slow
@rows(lambda c: c.check)
def test_both_modes_pass_the_checks_of_jax(case: Case):
    """`jax.test_util` takes the functions under test and compares them with finite differences."""
    with jax.enable_x64():
        args = arguments(case, np.float64)
        fun = compiled(flat(case))
        tolerance = {"atol": 1e-5, "rtol": 1e-5, "eps": 1e-5}
        check_jvp(fun, compiled(lambda p, t: cg.jvp(flat(case), p, t)), args, **tolerance)
        check_vjp(fun, lambda *p: cg.vjp(flat(case), *p), args, **tolerance)


@pytest.mark.slow
@rows(lambda c: c.order == 2 and c.in_jax)
def test_second_order_by_forward_over_reverse(case: Case):
    args = arguments(case, np.float32)
    cts = cotangents(case, args)

    @compiled
    def both(args, cts, tangents):
        ours = pushed_forward(lambda *xs: our_gradient(case)(xs, cts), args, tangents)
        theirs = jax.jvp(lambda *xs: jax_gradient(case)(xs, cts), args, tangents)[1]
        return [jnp.zeros_like(b) if a is None else a for a, b in zip(ours, theirs, strict=True)], theirs

    assert_close(*both(args, cts, like(args, seed=3)), 1e-4)


@rows(lambda c: not c.in_jax)
def test_forward_mode_is_the_transpose_of_reverse_mode(case: Case):
    with jax.enable_x64():
        args = arguments(case, np.float64)

        @compiled
        def both(args, cts, tangents):
            return inner(cts, our_tangents(case, args, tangents)), inner(our_gradient(case)(args, cts), tangents)

        pushed, pulled = both(args, cotangents(case, args), like(args, seed=3))
    np.testing.assert_allclose(pushed, pulled, rtol=1e-10, atol=1e-12)
