"""The parts of calls of functions with custom rules, as every version gives them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from ckptgrad import compat


def _only(fun, *args, named):
    return next(op for op in cg.trace(fun, *args).operations if op.name == named)


@jax.custom_vjp
def scaled(x, w):
    return x * w


scaled.defvjp(lambda x, w: (x * w, (x, jnp.cos(w))), lambda res, g: (g * 2, g * res[0] + res[1]))


def test_parts_of_a_custom_vjp_call():
    call = compat.custom_vjp_call(_only(scaled, 1.0, 2.0, named="custom_vjp_call").params)
    assert call.num_consts == 0
    assert len(call.forward([True, True]).out_avals) == 2, "a residual that is an operand is not computed again"
    assert call.forwarded() == [0, None]
    np.testing.assert_allclose(call.backward([3.0, 4.0], [5.0]), [10.0, 19.0])


@jax.custom_jvp
def tripled(x):
    return x * 3


@tripled.defjvp
def _(primals, tangents):
    return primals[0] * 3, tangents[0] * 3


def test_parts_of_a_custom_jvp_call():
    call = compat.custom_jvp_call(_only(tripled, 1.0, named="custom_jvp_call").params)
    rule, zeros = call.rule([False])
    assert (call.num_consts, call.symbolic_zeros, list(zeros)) == (0, False, [False])
    assert len(rule.in_avals) == 2
