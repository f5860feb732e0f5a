"""Operations that are done again: without the effects inside them whose results nothing reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

import ckptgrad as cg
from ckptgrad.graph.effects import silent
from ckptgrad.graph.evaluate import apply

X = jnp.linspace(0.1, 0.9, 3)


@pytest.fixture
def heard():
    return []


def told(heard, x):
    """Says something and gives nothing back."""
    io_callback(lambda v: heard.append("told"), None, x.sum())
    return x


def asked(heard, x):
    """Says something whose result is read."""

    def answer(v):
        heard.append("asked")
        return np.float32(2)

    return x * io_callback(answer, jax.ShapeDtypeStruct((), jnp.float32), x.sum())


def asked_in_vain(heard, x):
    asked(heard, x)
    return x


def both(heard, x):
    return told(heard, asked(heard, x))


def branched(talk):
    return lambda heard, x: lax.cond(x.sum() > 0, lambda x: talk(heard, x), lambda x: x, x)


def nested(talk):
    def body(heard, x):
        return lax.scan(lambda c, _: (talk(heard, c), None), x, None, length=2)[0]

    return body


TALKS = {
    "told": (told, []),
    "asked": (asked, ["asked"] * 3),
    "asked in vain": (asked_in_vain, []),
    "both": (both, ["asked"] * 3),
    "neither": (lambda heard, x: x, []),
    "told in a branch": (branched(told), []),
    "asked in a branch": (branched(asked), ["asked"] * 3),
    "both in a branch": (branched(both), ["asked"] * 3),
    "told in a loop": (nested(told), []),
    "both in a loop": (nested(both), ["asked"] * 6),
}


@pytest.mark.parametrize(("talk", "left"), TALKS.values(), ids=TALKS)
def test_what_is_heard_of_a_loop_that_runs_again(heard, talk, left):
    def fun(x):
        return lax.scan(lambda c, _: (jnp.sin(talk(heard, c)), None), x, None, length=3)[0]

    (loop,) = (op for op in cg.trace(fun, X).operations if op.name == "scan")
    quiet = silent(loop)
    assert bool(quiet.effects) == bool(left)
    # The operation itself is left as it is.
    assert bool(loop.effects) == (talk is not TALKS["neither"][0])
    values = [X if a.shape == X.shape else a.value for a in loop.inputs]
    found = apply(quiet, values)
    jax.effects_barrier()
    assert heard == left
    np.testing.assert_allclose(found[0], fun(X), rtol=1e-6)
    jax.effects_barrier()
    assert len(heard) >= 2 * len(left)


@pytest.mark.parametrize("place", ["predicate", "body", "both"])
def test_effects_of_each_program_inside_are_left(heard, place):
    def holds(x):
        return (asked(heard, x) if place != "body" else x).sum() < 10

    def body(x):
        return 2 * (asked(heard, x) if place != "predicate" else x)

    (loop,) = (op for op in cg.trace(lambda x: lax.while_loop(holds, body, x), X).operations if op.name == "while")
    assert silent(loop).effects == loop.effects != frozenset()


def test_effects_of_the_operation_itself_are_left():
    def fun(x):
        jax.debug.print("x")
        return jnp.sin(x)

    talking, sine = cg.trace(fun, X).operations
    assert silent(talking) is not sine
    assert silent(talking).effects == talking.effects
    assert silent(sine) is sine
