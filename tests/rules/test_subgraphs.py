"""Graphs inside operations: what is active in them, and tangents through them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.rules.subgraphs import (
    active_outputs,
    calls_custom_rule,
    calls_custom_vjp,
    carried,
    joint_of,
    push_through,
    some,
    typed,
)
from tests.support.compare import assert_same

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])


def test_outputs_that_depend_on_a_needed_input():
    graph = cg.trace(lambda x, y: (x * 2, x + y, jnp.floor(y), 3.0), X, Y)
    assert active_outputs(graph, [True, False]) == [True, True, False, False]
    assert active_outputs(graph, [False, True]) == [False, True, False, False]
    assert active_outputs(graph, [False, False]) == [False] * 4


def test_carried_inputs_become_needed_step_by_step():
    """The constant reaches the first state in one step, the second in two, the last one never."""
    graph = cg.trace(lambda w, a, b, c: (a + w, b * a, c), 1.0, 1.0, 1.0, 1.0)
    assert carried(graph, [True, False, False, False], 1, 3) == [True, True, True, False]
    assert carried(graph, [False, False, True, False], 1, 3) == [False, False, True, False]
    assert carried(graph, [False, False, False, True], 1, 3) == [False, False, False, True]


def test_joint_graphs_are_towards_needed_inputs_from_seeded_outputs():
    graph = cg.trace(lambda x, y: (jnp.sin(x) * y, jnp.exp(y)), X, Y)
    joint = joint_of(graph, [False, True], [0])
    assert (len(joint.cotangents), len(joint.gradients)) == (1, 1)
    assert "cos" not in {op.name for op in joint.operations}


def test_tangents_of_used_outputs_are_arrays():
    graph = cg.trace(lambda x, y: (jnp.sin(x), jnp.floor(y), x * y), X, Y)
    run = push_through(graph, [True, False], [True, True, False])
    outputs, tangents = run([X, Y], [Y])
    assert_same(outputs, [jnp.sin(X), jnp.floor(Y), X * Y], scale=4)
    assert_same(tangents, [jnp.cos(X) * Y, 0 * X], scale=4)


def test_values_fill_the_places_of_flags():
    assert some([True, False, True], ["a", "b"]) == ["a", None, "b"]


def test_literals_become_arrays_of_their_declared_type():
    avals = [jax.typeof(jnp.bfloat16(0)), jax.typeof(X)]
    number, array = typed([2.0, X], avals)
    assert number.dtype == jnp.bfloat16
    assert_same(array, X)


@jax.custom_jvp
def by_jvp(x):
    return jnp.sin(x)


by_jvp.defjvps(lambda t, ans, x: t)


@jax.custom_vjp
def by_vjp(x):
    return jnp.sin(x)


by_vjp.defvjp(lambda x: (jnp.sin(x), None), lambda _, ct: (ct,))
NESTED = {
    "itself": lambda f: f,
    "in a loop": lambda f: lambda x: lax.fori_loop(0, 3, lambda i, c: f(c), x),
    "in a branch in a loop": lambda f: lambda x: lax.fori_loop(0, 3, lambda i, c: lax.cond(i > 0, f, jnp.cos, c), x),
}


@pytest.mark.parametrize("around", NESTED.values(), ids=NESTED)
def test_functions_with_rules_of_their_own_are_seen_wherever_they_are(around):
    graphs = [cg.trace(around(f), X) for f in (jnp.sin, by_jvp, by_vjp)]
    assert [calls_custom_rule(graph) for graph in graphs] == [False, True, True]
    assert [calls_custom_vjp(graph) for graph in graphs] == [False, False, True]
