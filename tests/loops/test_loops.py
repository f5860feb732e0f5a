"""Gradients of loops under budgets, against jax.grad of the plain loop in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import quick
from tests.support.loop_plans import with_checkpoints

LENGTHS = [0, 1, 2, 97, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 7, 64, 1000, 4096))]
# Parts of the way from the least budget to that of every step stored.
BUDGETS = [0.0, 0.1, *(pytest.param(part, marks=pytest.mark.slow) for part in (0.4, 1.0, None))]


def budgeted(fun, argnums, args, part):
    """The compiled gradient of a function within a budget."""
    if part is None:
        return quick(cg.grad(fun, argnums))
    least = cg.plan(fun, *args, argnums=argnums, budget="min").peak_bytes
    most = cg.plan(fun, *args, argnums=argnums, policy="store_all").peak_bytes
    return quick(cg.grad(fun, argnums, budget=int(least + part * max(0, most - least))))


def assert_near(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * max(1.0, float(jnp.abs(b).max(initial=0.0))))


def rnn(params, h, xs, scan=lax.scan, **options):
    """A float, an integer and a key carried, dropout, stacked inputs and outputs."""

    def step(carry, x):
        h, count, key = carry
        key, sub = jax.random.split(key)
        keep = jax.random.bernoulli(sub, 0.8, h.shape)
        h = jnp.tanh(jnp.where(keep, h @ params["w"], 0) + x @ params["u"] + params["b"]) + h / (count + 2)
        return (h, count + 1, key), (h.sum(), count)

    (h, _, _), (ys, _) = scan(step, (h, 0, jax.random.key(7)), xs, **options)
    return (h**2).sum() + (ys * jnp.cos(ys)).sum()


def arguments(length, width=5, rows=3):
    w, u, b, h, x = jax.random.split(jax.random.key(0), 5)
    params = {
        "w": 0.4 * jax.random.normal(w, (width, width)),
        "u": jax.random.normal(u, (2, width)),
        "b": jax.random.normal(b, (width,)),
    }
    return params, jax.random.normal(h, (rows, width)), jax.random.normal(x, (length, rows, 2))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64():
        yield


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_lengths_and_budgets(length, budget):
    args = arguments(length)
    found = budgeted(rnn, (0, 1, 2), args, budget)(*args)
    assert_near(found, quick(jax.grad(rnn, (0, 1, 2)))(*args))


# Slots and steps in a group.
MORE = [(1, 1), (8, 4), (2, 1), (29, 1), (1, 28)]
OPTIONS = {
    "reversed": {"reverse": True},
    "unrolled": {"unroll": 3},
    "reversed and unrolled": {"reverse": True, "unroll": True},
}
UNROLLED = [pytest.param(o, marks=pytest.mark.slow) if "unroll" in o else o for o in OPTIONS.values()]


@pytest.mark.parametrize("plan", [(8, 4), pytest.param((2, 5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", UNROLLED, ids=OPTIONS)
def test_directions(options, plan):
    args = arguments(29)
    with with_checkpoints(*plan):
        found = quick(cg.grad(lambda *a: rnn(*a, **options), (0, 1, 2)))(*args)
    assert_near(found, jax.grad(lambda *a: rnn(*a, **options), (0, 1, 2))(*args))


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("plan", [(3, 4), *(pytest.param(p, marks=pytest.mark.slow) for p in MORE)])
def test_checkpoints_of_every_shape(plan, deferred):
    args = arguments(29)
    with with_checkpoints(*plan, deferred):
        found = quick(cg.grad(rnn, (0, 1, 2)))(*args)
    assert_near(found, jax.grad(rnn, (0, 1, 2))(*args))


def test_one_argument_alone():
    for argnum in (0, 2):
        args = arguments(40)
        found = budgeted(rnn, argnum, args, 0.2)(*args)
        assert_near(found, jax.grad(rnn, argnum)(*args))


def several(params, h, xs):
    """One loop after the other, and one inside another's steps."""

    def outer(h, x):
        inner = lax.scan(lambda c, y: (jnp.sin(c @ params["w"] + y @ params["u"]), None), h, xs[:6])[0]
        return inner + x.sum(), inner.mean()

    h, means = lax.scan(outer, h, xs)
    return rnn(params, h, xs) + rnn(params, jnp.cos(h), xs, reverse=True) + means.sum()


@pytest.mark.parametrize("budget", BUDGETS)
def test_loops_one_after_another_and_nested(budget):
    args = arguments(23)
    found = budgeted(several, (0, 1, 2), args, budget)(*args)
    assert_near(found, quick(jax.grad(several, (0, 1, 2)))(*args))


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.1, None])
def test_a_loop_inside_stages(budget):
    def loss(layers, h, xs):
        for params in layers:
            h = lax.scan(lambda c, x, p=params: (jnp.tanh(c @ p["w"] + x @ p["u"]), None), h, xs)[0] + h
        return (h**2).sum()

    params, h, xs = arguments(30)
    layers = [jax.tree.map(lambda x, k=k: x * (1 + 0.1 * k), params) for k in range(5)]
    wanted = jax.grad(loss)(layers, h, xs)
    assert_near(budgeted(loss, 0, (layers, h, xs), budget)(layers, h, xs), wanted)


def early_exit(params, h, xs, limit):
    """The number of steps depends on the data."""

    def goes_on(state):
        h, i, _ = state
        return (i < len(xs)) & (jnp.abs(h).sum() < limit)

    def step(state):
        h, i, key = state
        key, sub = jax.random.split(key)
        h = h + 0.1 * jnp.tanh(h @ params["w"] + xs[i] @ params["u"]) ** 2 * jax.random.uniform(sub, h.shape)
        return h, i + 1, key

    return (lax.while_loop(goes_on, step, (h, 0, jax.random.key(3)))[0] ** 2).sum()


def plain_exit(params, h, xs, limit):
    """The same as a scan that stands still once it is done."""

    def step(state, x):
        h, key, done = state
        done = done | (jnp.abs(h).sum() >= limit)
        key, sub = jax.random.split(key)
        moved = h + 0.1 * jnp.tanh(h @ params["w"] + x @ params["u"]) ** 2 * jax.random.uniform(sub, h.shape)
        return (jnp.where(done, h, moved), key, done), None

    return (lax.scan(step, (h, jax.random.key(3), False), xs)[0][0] ** 2).sum()


@pytest.mark.parametrize("limit", [0.0, 14.0, *(pytest.param(n, marks=pytest.mark.slow) for n in (20.0, 1e9))])
@pytest.mark.parametrize("budget", [0.0, None])
def test_while_loops_that_end_early(limit, budget):
    args = (*arguments(61), limit)
    found = budgeted(early_exit, (0, 1, 2), args, budget)(*args)
    assert_near(found, quick(jax.grad(plain_exit, (0, 1, 2)))(*args))


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("plan", [(4, 7), *(pytest.param(p, marks=pytest.mark.slow) for p in [(1, 1), (2, 3), (40, 2)])])
def test_while_loops_from_checkpoints_of_every_shape(plan, deferred):
    args = (*arguments(61), 1e9)
    with with_checkpoints(*plan, deferred):
        found = quick(cg.grad(early_exit, (0, 1)))(*args)
    assert_near(found, jax.grad(plain_exit, (0, 1))(*args))


def test_finite_differences_of_a_while_loop():
    params, h, xs = arguments(61)
    direction = jnp.sin(jnp.arange(h.size, dtype=float)).reshape(h.shape)
    gradient = quick(cg.grad(early_exit, 1, budget="min"))(params, h, xs, 1e9)
    step = 1e-6
    ahead, behind = (early_exit(params, h + s * direction, xs, 1e9) for s in (step, -step))
    np.testing.assert_allclose((gradient * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["min", None])
def test_transformations_of_planned_loops(budget):
    args = arguments(17)
    batch = jnp.stack([args[1], 2 * args[1]])
    gradient, wanted = cg.grad(rnn, budget=budget), jax.grad(rnn)
    assert_near(
        jax.vmap(gradient, (None, 0, None))(args[0], batch, args[2]),
        jax.vmap(wanted, (None, 0, None))(args[0], batch, args[2]),
    )

    def norm(of):
        return lambda h: sum((leaf**2).sum() for leaf in jax.tree.leaves(of(args[0], h, args[2])))

    assert_near(quick(cg.grad(norm(gradient)))(args[1]), jax.grad(norm(wanted))(args[1]))
    assert_near(quick(jax.grad(norm(gradient)))(args[1]), jax.grad(norm(wanted))(args[1]))
    along = jax.jvp(norm(gradient), (args[1],), (args[1],)), cg.jvp(norm(gradient), (args[1],), (args[1],))
    for found in along:
        assert_near(found, jax.jvp(norm(wanted), (args[1],), (args[1],)))


@pytest.mark.slow
def test_a_million_steps_decided_by_data():
    def fun(x, limit):
        def goes_on(state):
            return state[0] < limit

        return lax.while_loop(goes_on, lambda s: (s[0] + 1, s[1] + 1e-6 * jnp.sin(s[1])), (0, x))[1].sum()

    x = jnp.linspace(0.1, 1.0, 8)
    gradient = jax.jit(cg.grad(fun, budget=64 * x.nbytes))
    for steps in (0, 1, 10**6):
        # The flow of du/dt = sin(u) takes tan(u / 2) to exp(t) tan(u / 2).
        t = jnp.exp(1e-6 * steps)
        wanted = t / (jnp.cos(x / 2) ** 2 * (1 + (t * jnp.tan(x / 2)) ** 2))
        np.testing.assert_allclose(gradient(x, jnp.float64(steps)), wanted, rtol=1e-5)
