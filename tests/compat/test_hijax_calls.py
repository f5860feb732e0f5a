"""Calls of `jax.experimental.hijax`: their parts, as every version gives them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import hijax

import ckptgrad as cg
from ckptgrad import compat
from ckptgrad.compat.hijax_calls import hi_call

HiPrimitive: Any = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
X = jnp.array([0.3, -1.7, 2.0])


class Halved(HiPrimitive):
    """x / 2, by its forward mode alone."""

    def __init__(self, aval):
        self.in_avals, self.out_aval, self.params = (aval,), aval, {}
        super().__init__()

    def expand(self, x):
        return x / 2

    def jvp(self, primals, tangents):
        return self(*primals), self(*tangents)


class Transposed(Halved):
    def transpose(self, out_ct, accumulator):
        accumulator.accum(self(out_ct))


def call_of(kind):
    (op,) = [op for op in cg.trace(lambda x: kind(jax.typeof(x))(x), X).operations if op.name == compat.HI_CALL]
    return hi_call(op.params, [a.aval for a in op.inputs])


def test_what_is_called():
    call = call_of(Halved)
    assert call.name == "Halved"
    assert not call.is_custom_vjp
    assert not call.is_custom_jvp
    assert (call.closed_over, call.num_consts) == (0, 0)


def test_a_derived_reverse_rule_is_not_its_own():
    assert not call_of(Halved).pulls_back
    assert [call_of(kind).transposes for kind in (Halved, Transposed)] == [False, True]


def test_the_function_itself():
    program = call_of(Halved).primal
    (out,) = jax.extend.core.jaxpr_as_fun(program)(X)
    np.testing.assert_array_equal(out, X / 2)


def test_the_forward_mode_of_tangents_that_are_there():
    call = call_of(Halved)
    rule, zeros = call.rule([False])
    assert list(zeros) == [False]
    value, tangent = jax.extend.core.jaxpr_as_fun(rule)(X, 4 * X)
    np.testing.assert_array_equal(value, X / 2)
    np.testing.assert_array_equal(tangent, 2 * X)


def test_the_transpose_adds_up_what_it_is_given():
    (found,) = call_of(Transposed).transpose([X], [4 * X], [True])
    np.testing.assert_array_equal(found, 2 * X)
