"""Calls of functions with rules of their own: what the rule computes, and which rule it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.custom_calls import rule_call


@jax.custom_jvp
def by_jvp(x, n):
    return x * n


by_jvp.defjvp(lambda p, t: (by_jvp(*p), 3 * t[0] + jnp.cos(p[0]) * t[1]))


@jax.custom_vjp
def by_vjp(x, i):
    return jnp.sin(x) * i, i


by_vjp.defvjp(lambda x, i: (by_vjp(x, i), (x, jnp.exp(x))), lambda res, ct: (res[1] * ct[0], None))


def call_of(fun, *args):
    (op,) = [op for op in cg.trace(fun, *args).operations if op.name.startswith("custom")]
    call = rule_call(op.name, op.params)
    assert call.parameters <= {*op.params}
    return call


def test_other_operations_call_no_rule():
    (op,) = cg.trace(jnp.sin, 1.0).operations
    assert rule_call(op.name, op.params) is None


def test_the_program_of_a_rule_for_tangents():
    call = call_of(by_jvp, 1.0, 2.0)
    program, zeros = call.programs()
    assert [a.shape for a in call.in_avals] == [(), ()]
    assert "cos" in {eqn.primitive.name for eqn in program.eqns}
    assert not any(zeros)


def test_the_programs_of_a_rule_for_cotangents():
    """The first residual is an argument; of the results the integer has no cotangent, and neither has its argument."""
    call = call_of(by_vjp, 1.0, jnp.int32(2))
    forward, _, forwarded, backward, present = call.programs()
    assert forwarded[0] == 0
    assert forwarded[1] is None
    assert "exp" in {eqn.primitive.name for eqn in forward.eqns}
    assert len(backward.in_avals) == 3
    assert present == (True, False)


def test_a_rule_that_refuses_its_arguments_has_no_programs():
    """It need not be called at all."""

    @jax.custom_vjp
    def shy(x):
        return x * 2

    def refuse(x):
        raise TypeError("not these")

    shy.defvjp(refuse, lambda _, ct: (ct,))
    assert call_of(shy, 1.0).programs() is None


def test_a_rule_that_is_shown_zeros_is_not_known_beforehand():
    @jax.custom_vjp
    def seeing(x):
        return x * 2

    seeing.defvjp(lambda x: (x.value * 2, None), lambda _, ct: (ct,), symbolic_zeros=True)
    assert call_of(seeing, 1.0).programs() is None


@pytest.mark.parametrize("fun", [by_jvp, lambda x, n: by_vjp(x, n)[0]])
def test_each_call_has_an_anchor_of_its_own_and_one_rule(fun):
    args = (1.0, 2.0) if fun is by_jvp else (1.0, jnp.int32(2))
    graph = cg.trace(lambda x, n: (fun(x, n), fun(2 * x, n)), *args)
    first, second = [rule_call(op.name, op.params) for op in graph.operations if op.name.startswith("custom")]
    assert first.anchor is not second.anchor
    assert first.identity() == second.identity() is not None
