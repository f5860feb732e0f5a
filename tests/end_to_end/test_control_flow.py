"""Branches and loops: every part that can be differentiated, in every position, nested in each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import ckptgrad as cg
from ckptgrad.loops.plain import GROUP, SLOTS
from tests.support.compare import assert_same, quick

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])
KEY = jax.random.key(5)


def both(fun, budget=None):
    """Gradients towards X and Y by ckptgrad and by JAX, in one compilation."""
    ours, theirs = quick(lambda x, y: (cg.grad(fun, (0, 1), budget=budget)(x, y), jax.grad(fun, (0, 1))(x, y)))(X, Y)
    assert_same(ours, theirs, scale=8)


def scanned(body, xs=None, **kw):
    return lambda x, y: lax.scan(lambda c, a: body(c, a, y), x, xs, **kw)


STEPS = jnp.linspace(0.5, 1.5, 5)
SCANS = {
    "carried": scanned(lambda c, a, y: (jnp.sin(c) * y, None), length=4),
    "stacked": scanned(lambda c, a, y: (c, a * y), STEPS),
    "carried and stacked": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c * y), STEPS),
    "reversed": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c), STEPS, reverse=True),
    "unrolled": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c), STEPS, unroll=2),
    "all unrolled": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c), STEPS, unroll=True),
    "of no steps": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c), STEPS[:0]),
    "of one step": scanned(lambda c, a, y: (jnp.sin(c * a) + y, c), STEPS[:1]),
    "integer carry": lambda x, y: lax.scan(lambda c, a: ((c[0] + 1, jnp.sin(c[1]) * c[0]), c[1] * y), (0, x), STEPS)[1],
    "key carry": lambda x, y: lax.scan(
        lambda c, a: ((jax.random.split(c[0], 1)[0], c[1] * jax.random.uniform(c[0], (3,))), c[1] * y), (KEY, x), STEPS
    )[1],
    "integer inputs": lambda x, y: lax.scan(lambda c, i: (c * y[i], c[i]), x, jnp.array([2, 0, 1])),
    "differentiated inputs": lambda x, y: lax.scan(lambda c, a: (c * a, c + a), 1.0, jnp.concatenate([x, y])),
    "an output of the loop's input": lambda x, y: lax.scan(lambda c, a: (c, (a, y)), x, x * y)[1],
    "nested": scanned(
        lambda c, a, y: (lax.scan(lambda d, b: (jnp.tanh(d * b) * y, None), c, STEPS[:2] * a)[0], c.sum()), STEPS
    ),
    "with a branch": scanned(lambda c, a, y: (lax.cond(a > 1, jnp.sin, lambda v: v * y, c), c), STEPS),
    "with a while": scanned(
        lambda c, a, y: (lax.fori_loop(0, 3, lambda i, d: jnp.sin(d) * y, c), a), STEPS[:2]
    ),
    "a carry that becomes active": lambda x, y: lax.scan(lambda c, a: ((c[1], c[2], c[2] * y), None),
                                                         (jnp.ones(3), jnp.ones(3), x), None, length=4)[0],
    "map": lambda x, y: lax.map(lambda a: jnp.sin(a) * y, x),
    "associative_scan": lambda x, y: lax.associative_scan(lambda a, b: a * b, x * y),
    "fori_loop": lambda x, y: lax.fori_loop(0, 5, lambda i, c: jnp.sin(c) * y + i, x),
}  # fmt: skip


@pytest.mark.parametrize("fun", SCANS.values(), ids=SCANS)
def test_scans(fun):
    both(lambda x, y: sum((leaf * leaf).sum() for leaf in jax.tree.leaves(fun(x, y)) if leaf.dtype == x.dtype))


@pytest.mark.parametrize("name", ["carried and stacked", "key carry", "nested", "with a branch"])
def test_scans_within_the_least_budget(name):
    both(lambda x, y: sum((leaf * leaf).sum() for leaf in jax.tree.leaves(SCANS[name](jnp.sin(x), y))[-1:]), "min")


def counted_while(n):
    """The same steps as a while loop and as a scan, for JAX to differentiate."""

    def step(c, y):
        return jnp.sin(c) * y + 0.1 * c

    def by_while(x, y):
        return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, step(s[1], y)), (0, x))[1].sum()

    def by_scan(x, y):
        return lax.scan(lambda c, _: (step(c, y), None), x, None, length=n)[0].sum()

    return by_while, by_scan


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 63, 97, SLOTS * GROUP - 1, SLOTS * GROUP + 1, 3 * SLOTS * GROUP])
def test_reverse_mode_through_while_loops(n):
    by_while, by_scan = counted_while(n)
    with jax.enable_x64():
        x, y = X.astype(float), Y.astype(float)
        found, wanted = quick(cg.grad(by_while, (0, 1)))(x, y), jax.grad(by_scan, (0, 1))(x, y)
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)


def test_a_loop_longer_than_its_slots_serve():
    by_while, by_scan = counted_while(301)
    assert_same(quick(cg.grad(by_while, budget="min"))(X, Y), jax.grad(by_scan)(X, Y), scale=20)


def newton(a):
    """The square root; the number of steps depends on the data."""

    def unfinished(s):
        return jnp.abs(s * s - a) > 1e-5 * a

    return lax.while_loop(unfinished, lambda s: 0.5 * (s + a / s), a)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_the_count_may_depend_on_the_data(transform):
    np.testing.assert_allclose(transform(cg.grad(newton))(7.0), 0.5 / np.sqrt(7.0), rtol=1e-4)
    np.testing.assert_allclose(jax.vmap(cg.grad(newton))(X[::2] + 3), 0.5 / np.sqrt(X[::2] + 3), rtol=1e-4)


def test_while_agrees_with_finite_differences_and_forward_mode():
    def fun(x, n):
        return lax.fori_loop(0, n, lambda i, c: jnp.sin(c) * x + c / (i + 1), x).sum()

    with jax.enable_x64():
        x, n = X.astype(float), jnp.int32(9)
        gradient, step = cg.grad(fun)(x, n), 1e-6
        difference = (fun(x + step * Y, n) - fun(x - step * Y, n)) / (2 * step)
        along = cg.jvp(lambda x: fun(x, n), (x,), (Y.astype(float),))[1]
        np.testing.assert_allclose([gradient @ Y, along], [difference] * 2, rtol=1e-7)


def test_second_order_through_while():
    by_while, by_scan = counted_while(5)
    assert_same(quick(cg.hessian(by_while))(X, Y), quick(jax.hessian(by_scan))(X, Y), scale=40)
    twice = quick(cg.grad(lambda x: cg.grad(by_while)(x, Y).sum()))(X)
    assert_same(twice, quick(jax.grad(lambda x: jax.grad(by_scan)(x, Y).sum()))(X), scale=40)


def test_a_while_with_integers_keys_and_constants():
    def fun(x, y):
        def step(s):
            i, key, c, same = s
            key, sub = jax.random.split(key)
            return i + 1, key, c * jax.random.uniform(sub, (3,)) * y + same, same

        return lax.while_loop(lambda s: s[0] < 4, step, (0, KEY, x, x * 2))[2].sum()

    def reference(x, y):
        key, c, same = KEY, x, x * 2
        for _ in range(4):
            key, sub = jax.random.split(key)
            c = c * jax.random.uniform(sub, (3,)) * y + same
        return c.sum()

    assert_same(quick(cg.grad(fun, (0, 1)))(X, Y), jax.grad(reference, (0, 1))(X, Y), scale=8)


def test_while_memory_does_not_grow_with_the_steps():
    """The states that are stored are counted in slots, not in steps."""
    x = jnp.ones(1000)

    def temporaries(n):
        loss = lambda x: lax.fori_loop(0, jnp.int32(n), lambda i, c: jnp.sin(c) * 1.01, x).sum()
        return jax.jit(cg.grad(loss)).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(10) == temporaries(100_000)
    assert temporaries(10) <= (SLOTS + GROUP + 60) * x.nbytes


def test_a_loop_that_is_not_differentiated_stays_as_it_is():
    graph = cg.trace(cg.grad(lambda x: (x * lax.while_loop(lambda i: i < 3, lambda i: i + 1, 0)).sum()), X)
    assert graph.counts[p.while_p.name] == 1


def test_effects_happen_once_forward(capfd):
    def fun(x):
        def step(s):
            jax.debug.print("step {}", s[0])
            return s[0] + 1, jnp.sin(s[1])

        jax.debug.callback(lambda v: print("seen", v), x[0])
        return lax.while_loop(lambda s: s[0] < 3, step, (0, x))[1].sum()

    jax.block_until_ready(jax.jit(cg.grad(fun))(X))
    jax.effects_barrier()
    printed = capfd.readouterr().out
    assert [printed.count(f"step {i}") for i in range(4)] == [1, 1, 1, 0]
    assert printed.count("seen") == 1
