"""Buffers that loops write entry by entry and read: recognised, kept out of checkpoints, and differentiated alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.rules.loops.planned import open_loops
from tests.compare import quick
from tests.loops.plans import with_stack

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
    return [loop.step.written for loop in open_loops(stage.kind.joint)]


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
        with with_stack(*plan, deferred):
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
    with with_stack(3, 4):
        found = quick(cg.grad(fun, (0, 1, 2)))(W, U, XS)
    for a, b in zip(found, jax.grad(fun, (0, 1, 2))(W, U, XS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_checkpoints_do_not_hold_them():
    rows, width = 2000, 64
    w, u = jnp.eye(width), jnp.ones(width)

    def fun(w, u):
        def step(s):
            i, u, buffer = s
            u = jnp.tanh(w @ u + buffer[i - 5])
            return i + 1, u, buffer.at[i].set(u)

        return lax.while_loop(lambda s: s[0] < rows, step, (0, u, jnp.zeros((rows, width))))[2].sum()

    with with_stack(50, 40):
        found = compiled_memory(jax.jit(cg.grad(fun, (0, 1))).lower(w, u).compile()).temporary_bytes
    # The buffer at the start and at the end, its cotangent, and copies of these that XLA makes where loops begin.
    assert found <= 6 * rows * width * 4


def test_constants_that_are_read_entry_by_entry_get_their_gradients_in_place():
    """The time of a step does not depend on how many entries there are: no array of zeros is made for each."""
    xs = jnp.ones((1000, 64))

    def fun(xs):
        return lax.fori_loop(0, 1000, lambda i, c: jnp.sin(c + xs[i]), jnp.zeros(64)).sum()

    with with_stack(25, 40):
        compiled = jax.jit(cg.grad(fun)).lower(xs).compile()
    np.testing.assert_allclose(compiled(xs), jax.grad(fun)(xs), rtol=1e-5, atol=1e-6)
    assert compiled_memory(compiled).temporary_bytes <= 1.5 * xs.nbytes
    assert compiled.cost_analysis()["bytes accessed"] <= 100 * xs.nbytes
