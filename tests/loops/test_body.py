"""The body of a loop: what of it is constant, carried, stacked, active, and what its derivative adds up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.graph import Graph
from ckptgrad.loops.body import Body
from tests.support.loop_plans import loop_of

W, TABLE, X = jnp.eye(3), jnp.ones((5, 3)), jnp.linspace(0.1, 0.6, 6).reshape(2, 3)
XS = jnp.ones((4, 2, 3))


def body_of(step, *args, needs, carry=1, **options):
    """A body with as many constants as are left of its arguments, and no stacked inputs."""
    return Body(cg.trace(step, *args), len(args) - carry, carry, needs, **options)


def test_positions_of_what_has_a_gradient():
    """An integer constant and an integer state, a table that is only read entry by entry, one of two stacked outputs."""

    def step(w, table, n, count, c, same, a):
        c = jnp.tanh(c @ w + a) + table[count] * same
        return count + n, c, same, count, c.sum()

    graph = cg.trace(step, W, TABLE, 1, 0, X, X[0], XS[0])
    body = Body(graph, 3, 3, [True, True, False, False, True, True, True])
    assert (body.active_consts, body.active_carry, body.active_xs, body.active_ys) == ([0, 1], [1, 2], [0], [1])
    assert body.indexed == [1]
    assert body.moving == [0, 1]
    assert [a.shape for a in body.carry_avals] == [(), (2, 3), (3,)]
    assert [a.shape for a in body.out_avals] == [(), (2, 3), (3,), (), ()]


def test_what_comes_to_depend_on_a_differentiated_value_is_differentiated_too():
    """Two steps on, the second state depends on the constant, and the third on that."""
    body = body_of(lambda w, a, b, c: (a * w, b + a, c + b), 2.0, 1.0, 1.0, 1.0, needs=[True, False, False, False], carry=3)
    assert body.needs == [True, True, True, True]
    body = body_of(lambda w, a, b: (a * 2, b + w), 2.0, 1.0, 1.0, needs=[True, False, False], carry=2)
    assert body.needs == [True, False, True]


def test_an_output_without_a_cotangent_is_left_out():
    graph = cg.trace(lambda c: (jnp.sin(c), jnp.sqrt(c), c * 2), 1.0)
    assert Body(graph, 0, 1, [True]).active_ys == [0, 1]
    unused = Body(graph, 0, 1, [True], used=[True, False, True])
    assert unused.active_ys == [1]
    assert len(unused.joint.cotangents) == 2
    assert "sqrt" not in {op.name for op in unused.joint.backward_operations}


def test_values_of_constants_alone_are_invariant():
    body = body_of(lambda w, c: jnp.tanh(c * jnp.exp(w)), 2.0, 1.0, needs=[True, True])
    made = {op.name: op.outputs[0] for op in body.joint.forward_operations}
    assert {name for name, v in made.items() if v in body.invariant} == {"exp"}


def test_sums_are_as_wide_as_asked_for_but_where_gradients_are_added_in_place():
    graph = cg.trace(lambda w, t, i, c: c * w + t[i], *(jnp.ones(3, jnp.bfloat16), jnp.ones((5, 3), jnp.bfloat16), 0, X[0]))
    body = Body(graph, 3, 1, [True, True, False, True])
    assert body.indexed == [1]
    assert [s.dtype for s in body.sums()] == [jnp.bfloat16, jnp.bfloat16]
    assert [s.dtype for s in body.sums(jnp.float32)] == [jnp.float32, jnp.bfloat16]
    assert [s.shape for s in body.sums(jnp.float32)] == [(3,), (5, 3)]


def test_gradients_are_added_once():
    """That of the table was added by the step, which starts from the sum so far."""
    graph = cg.trace(lambda w, t, i, c: c * w + t[i], 2.0, TABLE, 0, X[0])
    body = Body(graph, 3, 1, [True, True, False, True])
    assert body.cotangents(["ct"], ["stacked"], ["sum of w", "sum of t"]) == ["ct", "stacked", "sum of t"]
    assert body.added([1.0, 5.0], [0.5, 7.0]) == [1.5, 7.0]
    assert body.added([1.0, 5.0], [None, None]) == [1.0, 5.0]


def test_the_body_with_custom_rules_applied_gives_what_the_rule_computes():
    @jax.custom_vjp
    def odd(x):
        return x * 2

    odd.defvjp(lambda x: (x * 3, None), lambda _, ct: (ct,))
    body = body_of(lambda c: odd(c) + 1, 1.0, needs=[True])
    assert (float(body.graph(2.0)[0]), float(body.applied(2.0)[0])) == (5.0, 7.0)
    plain = body_of(lambda c: c * 2, 1.0, needs=[True])
    assert plain.applied is plain.graph


def test_buffers_that_are_written_entry_by_entry_do_not_move():
    def run(x, buffer):
        return lax.fori_loop(0, 4, lambda i, s: (s[0] * 2 + s[1][i - 1], s[1].at[i].set(s[0])), (x, buffer))

    body = loop_of(run, X[0], TABLE[:4])[0].body
    (buffer,) = body.entry_buffers
    assert body.carry_avals[buffer.position].shape == (4, 3)
    assert buffer.position not in body.moving
    assert isinstance(body.graph, Graph)
    np.testing.assert_array_equal(sorted([*body.moving, buffer.position]), range(body.num_carry))


def test_a_carried_value_on_which_no_result_depends_is_left_out():
    step = cg.trace(lambda w, a, b, c: (a * w, jnp.sqrt(b) + w, c + b), 2.0, 1.0, 1.0, 1.0)
    assert Body(step, 1, 3, [True] * 4).active_carry == [0, 1, 2]
    assert Body(step, 1, 3, [True] * 4, used=[True, False, False]).active_carry == [0]
    last = Body(step, 1, 3, [True] * 4, used=[False, False, True])
    assert (last.active_carry, len(last.joint.cotangents)) == ([1, 2], 2)
