"""Evaluation of graphs: what it holds while it runs, and which operations it runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive

import ckptgrad as cg
from ckptgrad.graph.evaluate import needed_operations

SHAPE = (5, 41)  # Of no other test's arrays.
X = jnp.ones((3, 3))


@pytest.fixture
def sine():
    """A sine that is run eagerly, and after each of its runs the number of arrays of its shape that are alive."""
    primitive, alive = Primitive("watched_sine"), []

    @primitive.def_impl
    def run(x):
        made = jnp.sin(x)
        alive.append(sum(a.shape == SHAPE for a in jax.live_arrays()))
        return made

    primitive.def_abstract_eval(lambda x: x)
    return primitive.bind, alive


def in_turn(sine, x):
    for _ in range(30):
        x = sine(x)
    return x


def for_nothing(sine, x):
    """Results that nothing reads."""
    for _ in range(30):
        sine(x)
    return sine(x)


def read_again(sine, x):
    """Each result is read by the next two operations."""
    a = sine(x)
    for _ in range(15):
        b = sine(a)
        a = sine(a + b)
    return a


@pytest.mark.parametrize("fun", [in_turn, for_nothing, read_again])
def test_values_are_dropped_after_their_last_use(sine, fun):
    bind, alive = sine
    graph = cg.trace(lambda x: fun(bind, x), jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    graph(jnp.ones(SHAPE))
    assert len(alive) >= 30
    assert max(alive) == 3  # The argument, the result before, and the one that is made.


def test_results_that_are_returned_are_kept_to_the_end(sine):
    bind, alive = sine
    graph = cg.trace(lambda x: (bind(x), bind(bind(x))), jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    found = graph(jnp.ones(SHAPE))
    assert [a.shape for a in found] == [SHAPE] * 2
    assert alive == [2, 3, 4]


def test_what_is_needed_given_some_of_it():
    def talk(x):
        y = jnp.sin(x)
        jax.debug.print("{}", y.sum())
        return jnp.exp(jnp.cos(y)), jnp.tanh(x)

    graph = cg.trace(talk, X)
    by_name = {op.name: op for op in graph.operations}

    def names(*args, **options):
        return {op.name for op in needed_operations(graph.operations, *args, **options)}

    talking = set(by_name) - {"cos", "exp", "tanh"}
    assert {"sin", "reduce_sum"} < talking
    assert names(graph.outputs) == set(by_name)
    assert names(graph.outputs[:1]) == talking | {"cos", "exp"}
    assert names(graph.outputs[:1], effects=False) == {"sin", "cos", "exp"}
    assert names(graph.outputs[:1], by_name["cos"].outputs, effects=False) == {"exp"}
    assert names(graph.outputs[:1], by_name["exp"].outputs, effects=False) == set()
    assert names([], effects=False) == set()
