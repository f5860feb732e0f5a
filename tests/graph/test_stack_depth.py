"""Functions that are nested deeply, deeper than Python's usual stack reaches."""

from __future__ import annotations

import sys
import threading

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr

import ckptgrad as cg
from ckptgrad.errors import NestingError
from ckptgrad.graph.stack_depth import DEEPEST, deep_stack
from ckptgrad.graph.trace import from_jaxpr

X = jnp.array([0.5, 1.0, 2.0])


def nested(depth, wrap=jax.jit):
    def inner(x):
        return jnp.sum(jnp.sin(x))

    for _ in range(depth):
        inner = wrap(lambda x, inner=inner: inner(x) * 1.0)
    return inner


def by_cond(f):
    return lambda x: jax.lax.cond(x[0] > 0, f, lambda x: jnp.sum(x), x)


@pytest.mark.parametrize(("depth", "wrap"), [(150, jax.jit), (60, jax.checkpoint), (40, by_cond)])
def test_a_nested_function_is_differentiated(depth, wrap):
    before = sys.getrecursionlimit()
    f = nested(depth, wrap)
    assert jnp.allclose(cg.grad(f)(X), jnp.cos(X))
    assert cg.plan(f, X, budget="1x").peak_bytes > 0
    assert sys.getrecursionlimit() == before


def test_a_program_nested_deeper_than_any_stack_is_inlined():
    """As it is found where JAX has traced each level by itself."""

    def level(inner):
        closed = jax.make_jaxpr(jax.jit(lambda x: x * 2.0))(1.0)
        call = closed.jaxpr.eqns[0]
        program = call.params["jaxpr"] if inner is None else inner
        eqn = call.replace(params={**call.params, "jaxpr": program})
        return ClosedJaxpr(closed.jaxpr.replace(eqns=[eqn]), closed.consts)

    program = None
    for _ in range(3000):
        program = level(program) if program is None else ClosedJaxpr(program.jaxpr.replace(eqns=[
            program.jaxpr.eqns[0].replace(params={**program.jaxpr.eqns[0].params, "jaxpr": program})
        ]), ())  # fmt: skip
    graph = from_jaxpr(program)
    assert [op.name for op in graph.operations] == ["mul"]


@pytest.mark.slow
@pytest.mark.parametrize("door", [cg.grad, cg.trace])
def test_what_is_nested_too_deeply_is_told(door):
    def endless(x):
        return endless(x + 1)

    before = sys.getrecursionlimit()
    with pytest.raises(NestingError, match="calls itself without end") as caught:
        door(endless)(1.0) if door is cg.grad else door(endless, 1.0)
    assert isinstance(caught.value, RecursionError)
    assert sys.getrecursionlimit() == before


def test_the_limit_is_one_for_all_threads():
    """Who leaves first does not take the room from who is still inside."""
    before = sys.getrecursionlimit()
    entered, leave = threading.Event(), threading.Event()

    def other():
        with deep_stack():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with deep_stack():
        thread.start()
        entered.wait()
    assert sys.getrecursionlimit() == DEEPEST
    leave.set()
    thread.join()
    assert sys.getrecursionlimit() == before
