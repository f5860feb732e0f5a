"""Counters of loops: which carried integers are known to grow by one, and in which range."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.compat import scan_counts
from ckptgrad.graph.graph import Constant
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.loops.counters import (
    Counter,
    counter_of_index,
    counters_of,
    keeps,
    known_integer,
    last_by_predicate,
    last_of_steps,
)

X = jnp.ones(3)
UNKNOWN = jnp.int32(5)


def of_scan(step, *init, steps=5):
    """The body of a scan, the variables that it carries, and its counters."""

    def run(x, n):
        start = [n if a is UNKNOWN else a for a in init]
        return lax.scan(lambda c, _: (step(*c), None), (*start, x), None, length=steps)

    (op,) = [op for op in cg.trace(run, X, UNKNOWN).operations if op.name == "scan"]
    body, (n, c) = from_jaxpr(op.params["jaxpr"]), scan_counts(op.params)
    carry = body.inputs[n : n + c]
    return body, carry, counters_of(body, carry, op.inputs[n : n + c], last_of_steps(steps))


def test_a_counter_has_its_place_its_start_and_its_last_value():
    _, carry, counters = of_scan(lambda i, j, x: (i + 1, 1 + j, x * i), 0, 3)
    assert counters == {carry[0]: Counter(0, 0, 4), carry[1]: Counter(1, 3, 7)}


NO_COUNTERS = {
    "by two": (lambda i, x: (i + 2, x * 2), 0, 5),
    "downwards": (lambda i, x: (i - 1, x * 2), 9, 5),
    "constant": (lambda i, x: (i, x * 2), 0, 5),
    "from a negative number": (lambda i, x: (i + 1, x * 2), -1, 5),
    "from an unknown number": (lambda i, x: (i + 1, x * 2), UNKNOWN, 5),
    "a float": (lambda i, x: (i + 1, x * 2), 0.0, 5),
    "several at once": (lambda i, x: (i + 1, x * 2), np.zeros(2, np.int32), 5),
    "wraps around": (lambda i, x: (i + jnp.uint8(1), x * 2), np.uint8(0), 257),
}


@pytest.mark.parametrize("name", NO_COUNTERS)
def test_what_is_not_proved_is_not_a_counter(name):
    step, start, steps = NO_COUNTERS[name]
    assert of_scan(step, start, steps=steps)[2] == {}


def test_a_byte_counts_as_far_as_it_goes():
    _, carry, counters = of_scan(lambda i, x: (i + jnp.uint8(1), x * 2), np.uint8(0), steps=256)
    assert counters == {carry[0]: Counter(0, 0, 255)}


def of_while(holds):
    """The largest value with which a step begins, of two counters from 0 under a predicate of them and of a bound."""

    def run(x, n):
        step = lambda s: (s[0] + 1, s[1] + 1, s[2] * 2)
        return lax.while_loop(lambda s: holds(s[0], s[1], n), step, (np.int32(0), np.int32(0), x))

    (op,) = [op for op in cg.trace(run, X, UNKNOWN).operations if op.name == "while"]
    last = last_by_predicate(from_jaxpr(op.params["cond_jaxpr"]), op.params["cond_nconsts"])
    return last(0, 0), last(1, 0)


BOUNDS = {
    "below": (lambda i, j, n: i < 10, (9, None)),
    "not above": (lambda i, j, n: i <= 10, (10, None)),
    "the other way round": (lambda i, j, n: jnp.greater(10, i), (9, None)),
    "both": (lambda i, j, n: (i < 10) & (j < 4), (9, 3)),
    "twice": (lambda i, j, n: (i < 10) & (i < 4), (3, None)),
    "below what is unknown": (lambda i, j, n: i < n, (2**31 - 2, None)),
    "not above what is unknown": (lambda i, j, n: i <= n, (None, None)),
    "either": (lambda i, j, n: (i < 10) | (j < 4), (None, None)),
    "different": (lambda i, j, n: i != 10, (None, None)),
    "below each other": (lambda i, j, n: i < j, (2**31 - 2, None)),
    "never": (lambda i, j, n: i < 0, (0, None)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_predicate_bounds_what_it_compares(name):
    holds, wanted = BOUNDS[name]
    assert of_while(holds) == wanted


INDICES = {
    "the counter": (lambda i: i, True),
    "through a wider type": (lambda i: i.astype(jnp.float32).astype(jnp.int32), True),
    "through a type that holds it": (lambda i: i.astype(jnp.int8).astype(jnp.int32), True),
    "wrapped where it is negative": (lambda i: lax.select(i < 0, i + 9, i), True),
    "through a truth value": (lambda i: i.astype(bool).astype(jnp.int32), False),
    "beside it": (lambda i: i + 1, False),
    "modulo": (lambda i: i % 3, False),
    "chosen by something else": (lambda i: lax.select(i < 2, i + 9, i), False),
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_is_a_counter_only_where_it_is_equal_in_every_step(name):
    place, seen = INDICES[name]

    def step(i, x):
        return i + 1, lax.dynamic_update_slice(x, jnp.ones(1), (place(i),))

    body, carry, counters = of_scan(step, 0)
    (update,) = [op for op in body.operations if op.name == "dynamic_update_slice"]
    assert counter_of_index(body, update.inputs[2], counters) is (carry[0] if seen else None)


@pytest.mark.parametrize("steps", [257, 258])
def test_a_cast_must_hold_the_last_value_too(steps):
    """bfloat16 has 8 bits: 256 is exact, 257 is not."""
    through = lambda i: i.astype(jnp.bfloat16).astype(jnp.int32)
    body, carry, counters = of_scan(lambda i, x: (i + 1, x[through(i)] * x), 0, steps=steps)
    (cast,) = [op for op in body.operations if op.outputs[0].dtype == jnp.bfloat16]
    assert (counter_of_index(body, cast.outputs[0], counters) is carry[0]) == (steps == 257)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "kept"),
    [
        ("int8", -128, 127, True),
        ("int8", 0, 128, False),
        ("uint8", -1, 3, False),
        ("float32", 0, 2**24, True),
        ("float32", 0, 2**24 + 1, False),
        ("float16", -2048, 2048, True),
        ("bool", 0, 1, False),
    ],
)
def test_types_that_hold_every_integer_of_a_range(dtype, low, high, kept):
    assert keeps(np.dtype(dtype), low, high) == kept


def test_known_integers_are_constants_of_an_integer_type():
    op = cg.trace(lambda i, x: (i + 3, x + 2.0), UNKNOWN, X)
    values = [known_integer(a) for operation in op.operations for a in operation.inputs]
    assert values == [None, 3, None, None]
    assert [type(a) is Constant for operation in op.operations for a in operation.inputs] == [False, True] * 2
