"""Buffers that are written and met once more in the same step: what is read is what stands there, in every replay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.loops.planned import open_loops
from tests.support.compare import quick
from tests.support.loop_plans import with_checkpoints

STEPS, WIDTH = 12, 3
V = jnp.linspace(0.3, 0.9, WIDTH)


def row(buffer, i):
    return lax.dynamic_slice(buffer, (i, 0), (1, WIDTH))[0]


def put(buffer, i, v):
    return lax.dynamic_update_slice(buffer, v[None], (i, 0))


def new_value(buffer, i, v):
    return jnp.sin(v * 1.3 + row(buffer, jnp.maximum(i - 2, 0)) ** 2)


def reads_what_it_wrote(i, buffer, v):
    buffer = put(buffer, i, new_value(buffer, i, v))
    return buffer, jnp.sin(2 * row(buffer, i))


def reads_before_what_it_wrote(i, buffer, v):
    buffer = put(buffer, i, new_value(buffer, i, v))
    return buffer, jnp.sin(v + row(buffer, jnp.maximum(i - 1, 0)))


def reads_all_that_it_wrote(i, buffer, v):
    buffer = put(buffer, i, new_value(buffer, i, v))
    return buffer, jnp.sin(buffer.sum(0))


def reads_what_was_there(i, buffer, v):
    v = new_value(buffer, i, v)
    return put(buffer, i, v), jnp.sin(v + row(buffer, i))


def writes_twice(i, buffer, v):
    v = new_value(buffer, i, v)
    return put(put(buffer, i, v), jnp.maximum(i - 1, 0), v**2), v


def writes_one_place_twice(i, buffer, v):
    v = new_value(buffer, i, v)
    return put(put(buffer, i, v), i, v**2 + row(buffer, i)), v


def writes_what_it_reads(i, buffer, v):
    v = jnp.sin(v + 0.1)
    return put(buffer, i, row(buffer, i) * v), v


def writes_now_and_then(i, buffer, v):
    v = new_value(buffer, i, v)
    return jnp.where(i % 3 == 1, put(buffer, i, v), buffer), v


def writes_the_first_rows(i, buffer, v):
    v = new_value(buffer, i, v)
    return lax.dynamic_update_slice(buffer, jnp.stack([v, v**2]), (i, 0)), v


def writes_part_of_a_row(i, buffer, v):
    v = new_value(buffer, i, v)
    return lax.dynamic_update_slice(buffer, v[None, :2], (i, 1)), v


# What a step does, and whether its buffer is written once, and never met again once it is.
STEP = {
    "what it wrote": (reads_what_it_wrote, False),
    "the row before, once it wrote": (reads_before_what_it_wrote, False),
    "all that it wrote": (reads_all_that_it_wrote, False),
    "what was there": (reads_what_was_there, True),
    "two writes": (writes_twice, False),
    "two writes to one place": (writes_one_place_twice, False),
    "the row that it writes": (writes_what_it_reads, True),
    "a choice": (writes_now_and_then, False),
    "two rows": (writes_the_first_rows, False),
    "part of a row": (writes_part_of_a_row, False),
}


def by_scan(step, v, rows):
    def body(carry, _):
        i, buffer, v = carry
        buffer, v = step(i, buffer, v)
        return (i + 1, buffer, v), None

    return lax.scan(body, (0, jnp.ones((rows, WIDTH)) * v * 0.5, v), None, length=STEPS)[0][1:]


def by_fori(step, v, rows):
    return lax.fori_loop(0, STEPS, lambda i, c: step(i, *c), (jnp.ones((rows, WIDTH)) * v * 0.5, v))


def by_while(step, v, rows):
    start = 0, jnp.ones((rows, WIDTH)) * v * 0.5, v
    return lax.while_loop(lambda c: c[0] < STEPS, lambda c: (c[0] + 1, *step(*c)), start)[1:]


def loss_of(loop, step, rows=STEPS):
    def loss(v):
        buffer, v = loop(step, v, rows)
        return (buffer**2 * jnp.arange(1.0, buffer.size + 1).reshape(buffer.shape)).sum() + v.sum()

    return loss


def check(loss, once=None, reference=None):
    """With few checkpoints, in double precision."""
    with jax.enable_x64():
        v = V.astype(float)
        stages = cg.grad(loss).plan(v).program.stages
        (loop,) = [loop for stage in stages for loop in open_loops(stage.kind.joint)]
        assert once is None or len(loop.body.entry_buffers) == once
        with with_checkpoints(3, 5):
            found = quick(cg.grad(loss))(v)
        np.testing.assert_allclose(found, quick(jax.grad(reference or loss))(v), rtol=1e-11)


_QUICK = ("what it wrote", "all that it wrote", "what was there", "two writes")


@pytest.mark.parametrize(
    ("step", "once"), [pytest.param(*c, id=k, marks=[pytest.mark.slow] * (k not in _QUICK)) for k, c in STEP.items()]
)
def test_what_is_met_again(step, once):
    check(loss_of(by_scan, step), once)


@pytest.mark.slow
@pytest.mark.parametrize("loop", [by_while, by_fori])
@pytest.mark.parametrize("step", [step for step, _ in STEP.values()], ids=STEP)
def test_in_other_loops(loop, step):
    check(loss_of(loop, step), reference=loss_of(by_scan, step))


def slices(i, buffer, v):
    v = jnp.sin(v * 1.3 + row(buffer, i) ** 2)
    return put(buffer, i, v), v


# The last row is written by every step that has none of its own: once if there are enough of them.
@pytest.mark.parametrize(
    ("rows", "once"),
    [
        (STEPS, 1),
        (STEPS - 1, 0),
        pytest.param(STEPS + 1, 1, marks=pytest.mark.slow),
        pytest.param(1, 0, marks=pytest.mark.slow),
    ],
)
def test_a_row_too_few_is_written_more_than_once(rows, once):
    check(loss_of(by_scan, slices, rows), once)


def two_of_one(i, buffers, v):
    """Two carried values that are one buffer after the first step."""
    a, b = buffers
    v = new_value(a, i, v) + row(b, i)
    a = put(a, i, v)
    return (a, a), v


def exchanged(i, buffers, v):
    a, b = buffers
    v = new_value(a, i, v) + row(b, i)
    return (b, put(a, i, v)), v


def kept(i, buffers, v):
    """One carried value is the other one as it was a step ago."""
    a, _ = buffers
    v = new_value(a, i, v)
    return (put(a, i, v), a), v


@pytest.mark.parametrize(
    "step", [two_of_one, pytest.param(exchanged, marks=pytest.mark.slow), pytest.param(kept, marks=pytest.mark.slow)]
)
def test_buffers_that_pass_into_one_another(step):
    def loss(v):
        def body(carry, _):
            i, buffers, v = carry
            return (i + 1, *step(i, buffers, v)), None

        first = jnp.ones((STEPS, WIDTH)) * v * 0.5
        _, (a, b), v = lax.scan(body, (0, (first, 0.3 * first), v), None, length=STEPS)[0]
        return (a**2 * jnp.arange(1.0, a.size + 1).reshape(a.shape)).sum() + (b**3).sum() + v.sum()

    check(loss, 0)


@pytest.mark.slow
def test_a_buffer_that_is_stacked_too():
    def loss(v):
        def body(carry, _):
            i, buffer, v = carry
            v = new_value(buffer, i, v)
            buffer = put(buffer, i, v)
            return (i + 1, buffer, v), buffer

        return lax.scan(body, (0, jnp.ones((STEPS, WIDTH)) * v * 0.5, v), None, length=STEPS)[1].sum()

    check(loss, 0)
