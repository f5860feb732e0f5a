"""Buffers that loops write entry by entry and read: recognised, kept out of checkpoints, and differentiated alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.loops.planned import open_loops
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import quick
from tests.support.loop_plans import with_checkpoints

STEPS = 40
W = jnp.eye(3) * 0.6 + 0.1
U = jnp.linspace(0.2, 1.0, 3)
XS = jnp.sin(jnp.arange(STEPS * 3.0)).reshape(STEPS, 3)


def delayed(i, u, buffer, w, x, delay=4):
    """Reads the entry before (for the first step: the last, not yet written) and one further back."""
    u = jnp.tanh(w @ u + x + 0.3 * buffer[i - 1] * buffer[jnp.maximum(i - delay, 0)])
    return i + 1, u, buffer.at[i].set(u)


def by_fori(w, u, xs):
    start = (u, jnp.ones((STEPS, 3)) * u)
    _, buffer = lax.fori_loop(0, STEPS, lambda i, s: delayed(i, *s, w, xs[i])[1:], start)
    return (buffer**2 * xs).sum()


def by_while(w, u, xs):
    start = (0, u, jnp.ones((STEPS, 3)) * u)
    *_, buffer = lax.while_loop(lambda s: s[0] < STEPS, lambda s: delayed(*s, w, xs[s[0]]), start)
    return (buffer**2 * xs).sum()


def by_slices(w, u, xs):
    def step(s):
        i, u, buffer = s
        i, u, _ = delayed(i, u, buffer, w, xs[i])
        return i, u, lax.dynamic_update_slice(buffer, u[None], (i - 1, 0))

    def body(s, _):
        i, u, buffer = s
        _, u, _ = delayed(i, u, buffer, w, xs[i])
        return (i + 1, u, lax.dynamic_update_slice(buffer, u[None], (i, 0))), None

    return (lax.scan(body, (0, u, jnp.ones((STEPS, 3)) * u), None, length=STEPS)[0][2] ** 2 * xs).sum()


def written(fun, *args):
    """The written buffers that are recognised in the loops of a function."""
    (stage,) = cg.grad(fun, (0, 1, 2)).plan(*args).program.stages
    return [loop.body.entry_buffers for loop in open_loops(stage.kind.joint)]


LOOPS = {"fori_loop": by_fori, "while_loop": by_while, "slices": by_slices}
EACH = pytest.mark.parametrize("fun", LOOPS.values(), ids=LOOPS)


@EACH
def test_they_are_recognised(fun):
    ((buffer,),) = written(fun, W, U, XS)
    assert buffer.start == 0


@EACH
@pytest.mark.parametrize("plan", [(5, 3), *(pytest.param(p, marks=pytest.mark.slow) for p in [(1, 1), (3, 7), (40, 1)])])
@pytest.mark.parametrize("deferred", [False, True])
def test_gradients(fun, plan, deferred):
    with jax.enable_x64():
        args = [a.astype(float) for a in (W, U, XS)]
        with with_checkpoints(*plan, deferred):
            found = quick(cg.grad(fun, (0, 1, 2)))(*args)
        wanted = jax.grad(by_slices, (0, 1, 2))(*args)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_higher_derivatives_and_vmap():
    batch = jnp.stack([U, 2 * U])
    found = jax.vmap(cg.grad(by_while), (None, 0, None))(W, batch, XS)
    wanted = jax.vmap(jax.grad(by_slices), (None, 0, None))(W, batch, XS)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)
    twice = jax.grad(lambda u: (jax.grad(by_slices, 1)(W, u, XS) ** 2).sum())(U)
    np.testing.assert_allclose(cg.grad(lambda u: (cg.grad(by_fori, 1)(W, u, XS) ** 2).sum())(U), twice, rtol=1e-4)


def many(write, start=0, read=lambda buffer, i: buffer[i - 1], steps=STEPS):
    """A loop that writes a buffer in some way."""

    def fun(w, u, xs):
        def step(i, s):
            u, buffer = s
            u = jnp.tanh(w @ u + read(buffer, i))
            return u, write(buffer, i, u)

        return lax.fori_loop(start, start + steps, step, (u, jnp.zeros((STEPS + 9, 3)) + xs.sum()))[1].sum()

    return fun


ALIKE = {
    "an entry twice": many(lambda b, i, u: b.at[i // 2].set(u)),
    "added": many(lambda b, i, u: b.at[i].add(u)),
    "an entry beside": many(lambda b, i, u: b.at[i + 1].set(u)),
    "a negative start": many(lambda b, i, u: b.at[i].set(u), start=-3),
    "read as a whole": many(lambda b, i, u: b.at[i].set(u), read=lambda b, i: b.sum(0)),
    "moved to the end": many(lambda b, i, u: lax.dynamic_update_slice(b, u[None], (i, 0)), steps=STEPS + 20),
    "scaled": many(lambda b, i, u: 0.9 * b.at[i].set(u)),
}


@pytest.mark.parametrize("fun", ALIKE.values(), ids=ALIKE)
def test_what_only_looks_alike_is_carried(fun):
    assert written(fun, W, U, XS) == [[]] or written(fun, W, U, XS) == [()]
    with with_checkpoints(3, 4):
        found = quick(cg.grad(fun, (0, 1, 2)))(W, U, XS)
    for a, b in zip(found, jax.grad(fun, (0, 1, 2))(W, U, XS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


ROWS = 12
V = jnp.linspace(0.3, 0.9, 3)


def counted(
    steps=ROWS,
    rows=ROWS,
    dtype=jnp.int32,
    start=0,
    by=1,
    reverse=False,
    place=lambda i: i,
    read=lambda i: i // 2,
    write=None,
):
    """A scan that counts in a dtype, reads an entry of a buffer and then writes one."""
    write = write or (lambda buffer, i, v: buffer.at[i].set(v))

    def fun(w, v):
        def step(carry, _):
            buffer, i, v = carry
            earlier = lax.dynamic_slice(buffer, (read(i.astype(jnp.int32)), np.int32(0)), (1, 3))[0]
            v = jnp.sin(v * w + earlier**2) + 0.1
            return (write(buffer, place(i), v), i + jnp.asarray(by, dtype), v), None

        init = (jnp.ones((rows, 3)) * v * 0.5, jnp.asarray(start, dtype), v)
        buffer, _, v = lax.scan(step, init, None, length=steps, reverse=reverse)[0]
        return (buffer**2 * jnp.arange(1.0, rows * 3 + 1).reshape(rows, 3)).sum() + v.sum()

    return fun


def slice_at(buffer, i, v):
    return lax.dynamic_update_slice(buffer, v[None], (i, jnp.zeros((), i.dtype)))


def by_mode(mode):
    return lambda buffer, i, v: buffer.at[i].set(v, mode=mode)


def as_float(dtype):
    return lambda i: i.astype(dtype).astype(jnp.int32)


def while_counted(holds, dtype=jnp.int32, place=lambda i: i):
    """A while loop that counts in a dtype and goes on while a predicate holds of the counter and a number of steps."""

    def fun(w, v):
        def step(carry):
            n, buffer, i, v = carry
            earlier = lax.dynamic_slice(buffer, (i.astype(jnp.int32) // 2, np.int32(0)), (1, 3))[0]
            v = jnp.sin(v * w + earlier**2) + 0.1
            return n + 1, buffer.at[place(i)].set(v), i + jnp.asarray(1, dtype), v

        init = (0, jnp.ones((ROWS, 3)) * v * 0.5, jnp.zeros((), dtype), v)
        _, buffer, _, v = lax.while_loop(lambda c: holds(c[0], c[2]), step, init)
        return (buffer**2).sum() + v.sum()

    return fun


# Whether what is written is recognised as written once.
COUNTED = {
    "every entry": (counted(), True),
    "slices": (counted(write=slice_at), True),
    "more rows": (counted(rows=ROWS + 3, write=slice_at), True),
    "a row too few, written at the end": (counted(rows=ROWS - 1, write=slice_at, read=lambda i: i), False),
    "a row too few, dropped": (counted(rows=ROWS - 1, read=lambda i: i), True),
    "a start": (counted(start=3, rows=ROWS + 3, write=slice_at), True),
    "a start that is one too far": (counted(start=1, write=slice_at), False),
    "uint8 as far as it goes": (counted(steps=256, rows=256, dtype=jnp.uint8), True),
    "uint8 a step further": (counted(steps=257, rows=256, dtype=jnp.uint8), False),
    "uint8 further": (counted(steps=400, rows=300, dtype=jnp.uint8), False),
    "int8 as far as it goes": (counted(steps=128, rows=128, dtype=jnp.int8, write=slice_at), True),
    "int8 further": (counted(steps=150, rows=127, dtype=jnp.int8), False),
    "int8 from a start": (counted(steps=20, start=120, rows=127, dtype=jnp.int8), False),
    "uint16": (counted(dtype=jnp.uint16), True),
    "uint32": (counted(dtype=jnp.uint32, write=slice_at), True),
    "seen through uint8": (counted(steps=300, rows=300, place=lambda i: i.astype(jnp.uint8)), False),
    "seen through uint8, in range": (counted(place=lambda i: i.astype(jnp.uint8)), True),
    "seen through int8": (counted(steps=140, rows=127, place=lambda i: i.astype(jnp.int8)), False),
    "seen through bfloat16": (counted(steps=300, rows=300, place=as_float(jnp.bfloat16)), False),
    "seen through bfloat16, in range": (counted(place=as_float(jnp.bfloat16)), True),
    "seen through bool": (counted(place=lambda i: i.astype(bool).astype(jnp.int32)), False),
    "clipped": (counted(steps=ROWS + 3, write=by_mode("clip")), False),
    "dropped": (counted(steps=ROWS + 3, write=by_mode("drop")), True),
    "promised": (counted(write=by_mode("promise_in_bounds")), True),
    "by two": (counted(rows=2 * ROWS, by=2), False),
    "downwards": (counted(start=ROWS - 1, by=-1), False),
    "modulo": (counted(place=lambda i: i % 5), False),
    "clamped": (counted(place=lambda i: jnp.minimum(i, 5)), False),
    "negative reads far back": (counted(read=lambda i: i - 20), True),
    "reads beyond": (counted(read=lambda i: i + 20), True),
    "reads what comes": (counted(read=lambda i: i + 1), True),
    "backwards": (counted(reverse=True), True),
    "itself": (counted(rows=1, steps=2, write=lambda b, i, v: lax.dynamic_update_slice(b, b, (i, i))), False),
    "while below": (while_counted(lambda n, i: i < ROWS), True),
    "while above": (while_counted(lambda n, i: jnp.greater(ROWS, i)), True),
    "while below, and more": (while_counted(lambda n, i: (i < ROWS) & (n < 9)), True),
    "while not above": (while_counted(lambda n, i: i <= ROWS - 2), True),
    "while something else": (while_counted(lambda n, i: n < ROWS), False),
    "while different": (while_counted(lambda n, i: i != ROWS), False),
    "while below or": (while_counted(lambda n, i: (i < ROWS) | (n < 5)), False),
    "while uint8 wraps": (while_counted(lambda n, i: n < 300, jnp.uint8), False),
    "while uint8 is below": (while_counted(lambda n, i: i < ROWS, jnp.uint8), True),
    "while seen through int8": (while_counted(lambda n, i: i < ROWS + 0 * n, place=lambda i: i.astype(jnp.int8)), False),
}
_LIKE_ANOTHER = ("uint8 further", "int8 further", "seen through int8", "by two", "modulo", "uint16", "reads beyond")


@pytest.mark.parametrize(
    ("fun", "once"), [pytest.param(*c, id=k, marks=[pytest.mark.slow] * (k in _LIKE_ANOTHER)) for k, c in COUNTED.items()]
)
def test_what_is_written_once_is_proved(fun, once):
    """Against finite differences in double precision, with few checkpoints."""
    with jax.enable_x64():
        w, v = jnp.float64(0.9), V.astype(float)
        stages = cg.grad(fun, (0, 1)).plan(w, v).program.stages
        assert [len(loop.body.entry_buffers) for s in stages for loop in open_loops(s.kind.joint)] == [int(once)]
        with with_checkpoints(3, 5):
            found = quick(cg.grad(fun, (0, 1)))(w, v)
        eps = 1e-6
        run = jax.jit(fun)
        np.testing.assert_allclose(found[0], (run(w + eps, v) - run(w - eps, v)) / (2 * eps), rtol=1e-6)
        along = jnp.array([0.3, -1.0, 0.5])
        np.testing.assert_allclose(
            found[1] @ along, (run(w, v + eps * along) - run(w, v - eps * along)) / (2 * eps), rtol=1e-6
        )


def test_checkpoints_do_not_hold_them():
    rows, width = 2000, 64
    w, u = jnp.eye(width), jnp.ones(width)

    def fun(w, u):
        def step(s):
            i, u, buffer = s
            u = jnp.tanh(w @ u + buffer[i - 5])
            return i + 1, u, buffer.at[i].set(u)

        return lax.while_loop(lambda s: s[0] < rows, step, (0, u, jnp.zeros((rows, width))))[2].sum()

    with with_checkpoints(50, 40):
        found = compiled_memory(jax.jit(cg.grad(fun, (0, 1))).lower(w, u).compile()).temporary_bytes
    # The buffer at the start and at the end, its cotangent, and copies of these that XLA makes where loops begin.
    assert found <= 6 * rows * width * 4


def test_constants_that_are_read_entry_by_entry_get_their_gradients_in_place():
    """The time of a step does not depend on how many entries there are: no array of zeros is made for each."""
    xs = jnp.ones((1000, 64))

    def fun(xs):
        return lax.fori_loop(0, 1000, lambda i, c: jnp.sin(c + xs[i]), jnp.zeros(64)).sum()

    with with_checkpoints(25, 40):
        compiled = jax.jit(cg.grad(fun)).lower(xs).compile()
    np.testing.assert_allclose(compiled(xs), jax.grad(fun)(xs), rtol=1e-5, atol=1e-6)
    assert compiled_memory(compiled).temporary_bytes <= 1.5 * xs.nbytes
    assert compiled.cost_analysis()["bytes accessed"] <= 100 * xs.nbytes
