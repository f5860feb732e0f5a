"""What made a value, in the user's words."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.results.made_by import lines_of, made_by


def operations(f, *args):
    return cg.trace(f, *args).operations


def test_a_function_with_a_custom_derivative_has_its_own_name():
    (op,) = operations(jax.nn.relu, 1.0)
    assert op.name == "custom_jvp_call"
    assert made_by(op) == "relu"
    assert made_by(operations(jnp.sin, 1.0)[0]) == "sin"
    assert made_by(None) == "argument"


def test_what_is_called_by_several_functions_keeps_the_name_of_its_primitive():
    @jax.custom_jvp
    def twice(x):
        return jnp.sin(x) * jnp.cos(x)

    twice.defjvp(lambda primals, tangents: (twice(*primals), tangents[0]))
    assert made_by(operations(twice, 1.0)[0]) == "custom_jvp_call"


def test_the_lines_of_a_loop_are_those_of_its_steps_too():
    def step(x, w):
        return jnp.sin(x) * w, None

    (loop,) = operations(lambda x, ws: jax.lax.scan(step, x, ws)[0], 1.0, jnp.ones(3))
    lines = {line.line for line in lines_of(loop) if line is not None}
    assert step.__code__.co_firstlineno + 1 in lines
    assert loop.source.line in lines
