"""Programs that the search has found, made small: each failed before the engine was fixed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from tests.fuzz.doors import Question, compare

pytestmark = pytest.mark.usefixtures("x64")
slow = pytest.mark.slow


@jax.custom_vjp
def other_forward(x):
    """Its value is different under differentiation."""
    return jnp.tanh(x)


@jax.custom_vjp
def other_backward(x):
    return jnp.sin(x)


@jax.custom_jvp
def other_tangent(x):
    """Its rule computes the value without calling it, so a second derivative sees ordinary operations."""
    return jnp.sin(x)


other_forward.defvjp(lambda x: (2 * jnp.tanh(x), x), lambda r, g: (g * r,))
other_backward.defvjp(lambda x: (jnp.sin(x), x), lambda r, g: (g * r,))
other_tangent.defjvp(lambda xs, ts: (jnp.sin(xs[0]), ts[0] * xs[0]))

QUESTIONS = {
    "checkpoints": Question("value_and_grad", (("budget", "min"),)),
    "every step run self_calling": Question("value_and_grad", (("policy", "recompute_all"),)),
    "reverse over reverse": Question("grad of grad"),
    "forward over reverse": Question("jvp of grad", (("budget", "min"),)),
    "JAX over reverse": Question("jax.jvp of grad"),
}


def in_scan(rule, d, x, y):
    return lax.scan(lambda c, _: (jnp.sin(c + rule(y)) * c, c), x, None, length=5)[1].sum(0)


def in_while_loop(rule, d, x, y):
    return d.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(rule(c[1]) ** 2 + y)), (0, x))[1]


def in_nested_loops(rule, d, x, y):
    inner = lambda c: lax.scan(lambda a, _: (rule(a) * c, None), c, None, length=2)[0]
    return lax.fori_loop(0, 3, lambda i, c: jnp.sin(inner(c) + y), x)


def in_buffered_scan(rule, d, x, y):
    def step(carry, i):
        b, s = carry
        s = jnp.sin(rule(s) + 0.1 * b[i // 2] + y)
        return (lax.dynamic_update_index_in_dim(b, s, i, 0), s), None

    def counted(carry, _):
        i, rest = carry
        return (i + 1, step(rest, i)[0]), None

    return lax.scan(counted, (0, (jnp.zeros((6, 4)), x)), None, length=6)[0][1][0].sum(0)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "loop", [in_scan, pytest.param(in_while_loop, marks=slow), pytest.param(in_nested_loops, marks=slow), in_buffered_scan]
)
@pytest.mark.parametrize("rule", [other_forward, other_backward, pytest.param(other_tangent, marks=slow)])
def test_custom_rules_in_loops(rule, loop, question):
    """The rule computes the value: in the first run, in runs from checkpoints, and under a second derivative."""

    def program(d, x, y, *_):
        value = jnp.sum(loop(rule, d, x, y) ** 2)
        return value * jnp.sum(x * y), ()

    verdict = compare(program, QUESTIONS[question])
    assert verdict.kind == "agree", verdict.detail


def read_below_zero(x, y, i):
    return lax.dynamic_slice(x, (i,), (2,), allow_negative_indices=False) * y[:2]


def write_below_zero(x, y, i):
    return lax.dynamic_update_slice(x, y[:2], (i,), allow_negative_indices=False) ** 2


def write_further_and_further_below_zero(x, y, i):
    """An index of minus three counts from the end and is then clamped."""

    def step(carry, _):
        b, i, s = carry
        s = jnp.sin(0.8 * s + y)
        return (lax.dynamic_update_index_in_dim(b, s, i, 0), i - 1, s), None

    return lax.scan(step, (jnp.zeros((2, 4)), i + 2, x), None, length=4)[0][0] * jnp.array([[1.0], [2.0]])


@pytest.mark.parametrize("indexed", [read_below_zero, write_below_zero, write_further_and_further_below_zero])
def test_negative_indices_are_clamped(indexed):
    def program(d, x, y, m, u, n, key):
        return jnp.sum(indexed(x, y, n - 5) * x[0]), ()

    for door in ("value_and_grad", "jvp", "grad of grad"):
        verdict = compare(program, Question(door))
        assert verdict.kind == "agree", (door, verdict.detail)


@pytest.mark.parametrize("door", ["value_and_grad", "jvp"])
def test_each_entry_of_a_batch_ends_its_own_loop(door):
    def program(d, x, y, *_):
        def until(a, b):
            return d.while_loop(lambda c: c[0] < a, lambda c: (c[0] + 0.2, jnp.sin(c[1] * b + a)), (0.0, a))[1]

        return jnp.sum(jax.vmap(until)(x, y)), ()

    verdict = compare(program, Question(door))
    assert verdict.kind == "agree", verdict.detail


@jax.custom_vjp
def self_calling(x):
    """Its rule calls the function itself, which therefore appears in the gradient."""
    return 2 * jnp.tanh(x)


self_calling.defvjp(lambda x: (self_calling(x), x), lambda r, g: (0.7 * g * r,))


def unread_stages(d, x, y):
    """Stages whose difference nothing reads."""
    d.stage(lambda a: other_backward(a))(y) - d.stage(lambda a: other_backward(a) * 2)(y)
    return x


def unread_loop_in_a_stage(d, x, y):
    """A stage that begins with a scan and does not read its result."""
    before = lax.scan(lambda c, _: (other_backward(c) * other_forward(c), None), y, None, length=3)[0]

    def stage(a):
        lax.scan(lambda c, _: (lax.cond(c[0] > 0, jnp.sin, jnp.cos, c), c), before, None, length=2)
        return jnp.sin(a)

    return d.stage(stage)(x)


def unread_rule_on_rows(d, x, y):
    """Each step applies a rule to its row, which is not carried, and drops the result."""

    def step(c, row):
        jax.vmap(self_calling)(jnp.outer(row, row))
        return jnp.sin(c), None

    return lax.scan(step, x, jnp.outer(y, x))[0]


def unread_comparison_in_a_branch(d, x, y):
    """One of the branches compares the result of a scan with its operand, and drops the comparison."""
    before = lax.scan(lambda c, _: (other_backward(c), None), x, None, length=3)[0]

    def compared(a):
        before > a  # noqa: B015 (nothing reads it)
        return jnp.sin(x)

    return lax.switch(jnp.int32(y[0] > 0), [compared, lambda a: jnp.cos(x), lambda a: a], x)


def unread_sum_in_a_loop(d, x, y):
    """A loop whose steps read a rule's result, and drop what they compute from it."""
    before = other_backward(x)
    return lax.fori_loop(0, 7, lambda i, c: (c[0] + before * 2, x)[1:], (y,))[0]


@pytest.mark.parametrize(
    ("fun", "question"),
    [
        *(
            (f, a)
            for f in (unread_stages, unread_loop_in_a_stage, unread_rule_on_rows)
            for a in ("forward over reverse", "JAX over reverse")
        ),
        (unread_comparison_in_a_branch, "forward over reverse"),
        (unread_sum_in_a_loop, "forward over reverse"),
    ],
)
def test_forward_mode_where_no_tangent_of_a_custom_vjp_is_read(fun, question):
    verdict = compare(lambda d, x, y, *_: (jnp.sum(fun(d, x, y)), ()), QUESTIONS[question])
    assert verdict.kind == "agree", verdict.detail


def test_a_loop_of_unknown_length_carries_only_tangents_that_are_read():
    step = lambda c: (c[0] + 1, other_backward(c[1]), jnp.sin(c[2]))
    program = lambda x: lax.while_loop(lambda c: c[0] < 3, step, (0, x, x))[2]
    ours = jax.jit(lambda: cg.jvp(program, (0.3,), (1.0,)))()
    np.testing.assert_allclose(ours, jax.jvp(lambda x: jnp.sin(jnp.sin(jnp.sin(x))), (0.3,), (1.0,)), rtol=1e-12)


def test_forward_mode_where_a_tangent_of_a_custom_vjp_is_read_is_refused():
    step = lambda c, _: ((other_backward(c[0]), c[1] + c[0]), None)
    program = lambda x: lax.scan(step, (x, x), None, length=3)[0][1]
    with pytest.raises(TypeError, match="custom_vjp"):
        cg.jvp(program, (0.3,), (1.0,))
