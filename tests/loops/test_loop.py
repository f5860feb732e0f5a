"""What scans and whiles have in common: operands divided, cotangents and gradients put in their places."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.loops.while_loop import While
from tests.support.loop_plans import loop_of

W, X, XS = jnp.array([2.0, 0.5]), jnp.array([1.0, -1.0]), jnp.ones((4, 2))


def scanned(w, x, xs):
    return lax.scan(lambda c, a: ((c[0] + 1, c[1] * w + a), (c[0], c[1].sum())), (0, x), xs)


def whiled(limit, w, x):
    return lax.while_loop(lambda c: c.sum() < limit, lambda c: c * w + 1, x)


def test_operands_of_a_scan():
    loop, operands = loop_of(scanned, W, X, XS)
    consts, init, xs = loop.divide(operands)
    assert loop.differentiated == [True, False, True, True]
    np.testing.assert_array_equal(consts, [W])
    np.testing.assert_array_equal(init[1], X)
    np.testing.assert_array_equal(xs, [XS])
    # A number that was written into the program is an array of the type that the body carries.
    assert init[0].dtype == jnp.int32


def test_operands_of_a_while_begin_with_those_of_its_predicate():
    loop, operands = loop_of(whiled, jnp.float32(5), W, X)
    consts, init, xs = loop.divide(operands)
    assert isinstance(loop, While)
    assert (loop.offset, loop.length, xs) == (1, None, [])
    np.testing.assert_array_equal(consts, [W])
    np.testing.assert_array_equal(init, [X])
    assert loop.differentiated == [False, True, True]


def test_cotangents_of_what_is_active_are_zeros_where_nothing_flows():
    loop, _ = loop_of(scanned, W, X, XS)
    carry, stacked = loop.cotangents([None, None, None, XS[:, 0]])
    np.testing.assert_array_equal(carry, [[0, 0]])
    np.testing.assert_array_equal(stacked, [[1, 1, 1, 1]])


def test_gradients_have_the_type_of_their_operand_and_none_where_nothing_flows():
    loop, _ = loop_of(scanned, W.astype(jnp.bfloat16), X, XS)
    w, count, x, xs = loop.gradients([jnp.ones(2, jnp.float32)], [X], [XS])
    assert (w.dtype, count) == (jnp.bfloat16, None)
    assert x is X
    assert xs is XS


@jax.custom_vjp
def odd(x):
    return x * 2


odd.defvjp(lambda x: (x * 3, None), lambda _, ct: (ct,))


def test_differentiated_again_a_custom_function_is_what_its_rule_computes():
    loop, operands = loop_of(lambda x: lax.scan(lambda c, _: (odd(c), None), x, None, length=2), X)
    np.testing.assert_array_equal(loop.definition(*operands)[0], 4 * X)
    np.testing.assert_array_equal(loop.definition_again(*operands)[0], 9 * X)


def test_a_function_without_forward_mode_is_seen_where_its_rule_calls_another():
    """Of a custom function only the rule is left in the derivative; a custom function within the rule stays."""

    @jax.custom_vjp
    def outer(x):
        return jnp.sin(x)

    outer.defvjp(lambda x: (odd(x), x), lambda x, ct: (odd(ct) * x,))
    step = lambda f: loop_of(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2), X)[0]
    assert [step(f).has_custom_vjp for f in (jnp.sin, odd, outer)] == [False, False, True]


def test_loops_inside_are_reversed_without_a_plan_where_this_one_is():
    nested = lambda x: lax.scan(lambda c, _: (lax.fori_loop(0, 3, lambda i, d: d * c, c), None), x, None, length=4)
    loop, _ = loop_of(nested, X)
    names = [{op.name for op in body.joint.operations} for body in (loop.body, loop.unplanned)]
    assert ["loop_forward" in found for found in names] == [True, False]
