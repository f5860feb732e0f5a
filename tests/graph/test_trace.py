"""Tracing: what is inlined, what stays one operation, constants, the user's lines."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg


def names(fun, *args):
    return [op.name for op in cg.trace(fun, *args).operations]


@jax.jit
def inner(x):
    return jnp.sin(x) * 2.0


@jax.jit
def middle(x):
    return inner(jnp.cos(x)) + inner(x)


def test_nested_jits_are_inlined():
    assert names(lambda x: jnp.exp(middle(x)), 1.0) == ["cos", "sin", "mul", "sin", "mul", "add", "exp"]


def test_user_checkpoints_are_inlined():
    assert names(jax.checkpoint(lambda x: jnp.sin(jnp.cos(x))), 1.0) == ["cos", "sin"]


@pytest.mark.parametrize(
    ("fun", "primitive"),
    [
        (lambda x: lax.scan(lambda c, _: (jnp.sin(c), c), x, None, length=3)[0], "scan"),
        (lambda x: lax.while_loop(lambda c: c < 3.0, lambda c: c + 1.0, x), "while"),
        (lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x), "cond"),
        (jax.nn.relu, "custom_jvp_call"),
        (jax.custom_vjp(lambda x: x * 2.0), "custom_vjp_call"),
    ],
    ids=["scan", "while", "cond", "custom_jvp", "custom_vjp"],
)
def test_control_flow_and_custom_rules_stay_operations(fun, primitive):
    if primitive == "custom_vjp_call":
        fun.defvjp(lambda x: (x, None), lambda _, g: (g,))
    assert primitive in names(fun, 1.0)


def test_each_operation_knows_its_line():
    def f(x):
        y = jnp.sin(x)
        return inner(y)

    first = inspect.getsourcelines(f)[1]
    sources = [op.source for op in cg.trace(f, 1.0).operations]
    assert all(s.file == __file__ for s in sources)
    inside = inspect.getsourcelines(inner)[1] + 2
    assert [s.line for s in sources] == [first + 1, inside, inside]
    assert [s.function.rpartition(".")[2] for s in sources] == ["f", "inner", "inner"]


def test_constants_are_captured_once():
    table = np.arange(6.0, dtype=np.float32)

    @jax.jit
    def lookup(x):
        return x * table

    graph = cg.trace(lambda x: lookup(x) + lookup(x + 1.0) + table, jnp.ones(6))
    assert len(graph.constants) == 1
    (value,) = graph.constants.values()
    np.testing.assert_array_equal(value, table)
    np.testing.assert_array_equal(graph(jnp.ones(6))[0], table * 4)


def test_shapes_alone_are_enough():
    graph = cg.trace(lambda x: x @ x, jax.ShapeDtypeStruct((3, 3), jnp.bfloat16))
    assert graph.outputs[0].aval.str_short() == "bfloat16[3,3]"


def test_tracing_under_jit_and_vmap_closes_over_tracers():
    def doubled(x):
        return cg.trace(lambda y: y * x, x)(x)[0]

    assert jax.jit(doubled)(3.0).item() == 9.0
    np.testing.assert_array_equal(jax.vmap(doubled)(jnp.arange(3.0)), [0.0, 1.0, 4.0])


def test_marked_stages_are_remembered():
    layer = cg.stage(lambda w, x: x + jnp.tanh(x * w))
    graph = cg.trace(lambda w, x: layer(w, layer(w, x * 2.0)), 1.0, 2.0)
    assert graph.stage_marks == ((1, 4), (4, 7))
