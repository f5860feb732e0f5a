"""Which results a derivative can reach, value by value inside loops and branches."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.autodiff.reach import grown, inputs_reaching, operands_reaching, reached


def exchanged(a, b, c):
    """Two values that exchange places each step, beside one that stays by itself."""
    return lax.scan(lambda s, _: ((s[1], 2 * s[0], jnp.sin(s[2])), None), (a, b, c), None, length=3)[0]


def shifted(a, b, c):
    return lax.scan(lambda s, _: ((s[0], s[0] + s[1], s[1] * s[2]), None), (a, b, c), None, length=3)[0]


def shifted_while(a, b, c):
    return lax.while_loop(lambda s: s[0] < 9, lambda s: (2 * s[0], s[0] + s[1], s[1] * s[2]), (a, b, c))


def branches(a, b, c):
    return lax.cond(a > 0, lambda b, c: (b, c, c), lambda b, c: (b, b, c), b, c)


def rounded(a, b, c):
    return jnp.floor(a) + b, lax.stop_gradient(b), c


# A function of three numbers, and for each result the inputs from which a derivative reaches it.
FUNCTIONS = {
    "apart": (lambda a, b, c: (a * b, b, c), ["ab", "b", "c"]),
    "no derivative": (rounded, ["b", "", "c"]),
    "a scan that exchanges": (exchanged, ["ab", "ab", "c"]),
    "a scan that shifts": (shifted, ["a", "ab", "abc"]),
    "a while loop that shifts": (shifted_while, ["a", "ab", "abc"]),
    "branches": (branches, ["b", "bc", "c"]),
}


@pytest.mark.parametrize(("fun", "expected"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_from_results_to_inputs_and_back(fun, expected):
    graph = cg.trace(fun, 1.0, 2.0, 3.0)
    for k, names in enumerate(expected):
        used = [i == k for i in range(3)]
        assert inputs_reaching(graph, used) == [name in names for name in "abc"]
    for i, name in enumerate("abc"):
        moving = [j == i for j in range(3)]
        assert reached(graph, moving) == [name in names for names in expected]


def test_operands_of_a_loop_on_which_no_result_depends():
    """A constant, a carried value and a stacked one; the second body reads the constant in no result with a derivative."""
    body = cg.trace(lambda a, s, x: (s * a, jnp.floor(x)), 1.0, 2.0, 3.0)
    assert operands_reaching(body, 1, 1) == [True, True, False]
    idle = cg.trace(lambda a, s, x: (s + jnp.sign(a), s * x), 1.0, 2.0, 3.0)
    assert operands_reaching(idle, 1, 1) == [False, True, True]


def test_flags_grow_until_a_step_adds_none():
    """Each flag sets the next one, so that the last is reached after as many steps as there are."""
    steps = []

    def follow(flags):
        steps.append(list(flags))
        return [False, *flags[:-1]]

    assert grown([True, False, False, False], range(4), follow) == [True] * 4
    assert len(steps) == 4
