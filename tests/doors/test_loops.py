"""`cg.scan`, `cg.fori_loop`, `cg.while_loop`: planned loops under JAX's own transformations and this engine's."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import assert_same, quick

W, X = jnp.eye(3) * 0.7 + 0.1, jnp.linspace(0.1, 1, 6).reshape(2, 3)
XS = jnp.sin(jnp.arange(20 * 6.0)).reshape(20, 2, 3)
OPTIONS = {
    "as it is": {},
    "two levels": {"policy": "two_levels"},
    "every step stored": {"policy": "store_all"},
    "binomial, least": {"policy": "revolve", "budget": "min"},
    "half": {"budget": "0.5x"},
}
EACH = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def loss(w, x, xs, scan=lax.scan):
    """Floats, integers and a dictionary carried; what is closed over is differentiated."""

    def step(carry, a):
        count, h = carry["count"], jnp.tanh(carry["h"] @ w + a)
        return {"count": count + 1, "h": h}, h.sum() * a[0] * count

    final, ys = scan(step, {"count": 0, "h": x}, xs)
    return (final["h"] ** 2).sum() + (ys**2).mean()


def planned(**options):
    return lambda w, x, xs: loss(w, x, xs, lambda *a: cg.scan(*a, **options))


@EACH
def test_reverse_mode_of_jax_and_of_this_engine(options):
    wanted = jax.grad(loss, (0, 1, 2))(W, X, XS)
    assert_same(planned(**options)(W, X, XS), loss(W, X, XS), scale=4)
    for grad in (jax.grad, cg.grad):
        assert_same(quick(grad(planned(**options), (0, 1, 2)))(W, X, XS), wanted, scale=40)


@EACH
def test_forward_mode(options):
    wanted = jax.jvp(loss, (W, X, XS), (W, X, XS))
    for jvp in (jax.jvp, cg.jvp):
        assert_same(jvp(planned(**options), (W, X, XS), (W, X, XS)), wanted, scale=40)


@EACH
def test_vmap_inside_and_outside(options):
    batch = jnp.stack([XS, 2 * XS])

    def both(f):
        outside = jax.vmap(jax.grad(f), (None, None, 0))(W, X, batch)
        inside = jax.grad(lambda w: jax.vmap(f, (None, None, 0))(w, X, batch).sum())(W)
        return outside, inside

    assert_same(quick(lambda: both(planned(**options)))(), both(loss), scale=80)


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS["two levels"], OPTIONS["binomial, least"]], ids=["two levels", "binomial"])
def test_higher_derivatives(options):
    f = planned(**options)
    wanted = jax.hessian(loss)(W, X, XS)
    assert_same(jax.hessian(f)(W, X, XS), wanted, scale=200)
    assert_same(cg.hessian(f)(W, X, XS), wanted, scale=200)
    twice = jax.grad(lambda w: (jax.grad(f)(w, X, XS) ** 2).sum())(W)
    assert_same(twice, jax.grad(lambda w: (jax.grad(loss)(w, X, XS) ** 2).sum())(W), scale=200)


@EACH
def test_budgets_bound_what_the_loop_holds(options):
    if "budget" not in options:
        return
    h = jnp.ones((64, 128))

    def f(h, scan):
        return scan(lambda c, _: (jnp.sin(c), None), h, None, length=500)[0].sum()

    def temporaries(scan):
        return compiled_memory(jax.jit(jax.grad(lambda h: f(h, scan))).lower(h).compile()).temporary_bytes

    plain = temporaries(lax.scan)
    assert temporaries(lambda *a, **k: cg.scan(*a, **k, **options)) <= 0.52 * plain


def test_a_number_of_bytes_is_kept():
    h = jnp.ones((64, 128))
    for states in (12, 40, 200):
        f = lambda h, b=states * h.nbytes: cg.scan(lambda c, _: (jnp.sin(c), None), h, None, 500, budget=b)[0].sum()
        found = compiled_memory(jax.jit(jax.grad(f)).lower(h).compile()).temporary_bytes
        assert found <= (states + 1) * h.nbytes


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize("n", [0, 1, 2, 19])
def test_bounds_known_at_run_time(budget, n):
    def f(w, n):
        return cg.fori_loop(0, n, lambda i, c: jnp.sin(c @ w) + i, X, budget=budget).sum()

    wanted = jax.grad(lambda w: lax.fori_loop(0, n, lambda i, c: jnp.sin(c @ w) + i, X).sum())(W)
    for grad in (jax.grad, cg.grad):
        assert_same(quick(grad(f))(W, n), wanted, scale=40)


def test_static_bounds_and_while():
    wanted = jax.grad(lambda w: lax.fori_loop(0, 9, lambda i, c: jnp.sin(c @ w) + i, X).sum())(W)
    assert_same(jax.grad(lambda w: cg.fori_loop(0, 9, lambda i, c: jnp.sin(c @ w) + i, X).sum())(W), wanted, scale=40)

    def by_while(w):
        return cg.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, jnp.sin(s[1] @ w) + s[0]), (0, X))[1].sum()

    assert_same(jax.grad(by_while)(W), wanted, scale=40)
    assert_same(jax.jvp(by_while, (W,), (W,))[1], (wanted * W).sum(), scale=40)


def test_sums_in_a_wider_type():
    """A thousand gradients of one in bfloat16 sum to 256 in bfloat16, where 257 does not exist."""
    w = jnp.bfloat16(1)

    def total(accumulate):
        options = {"accumulate": accumulate, "policy": "store_all"}
        return jax.grad(lambda w: cg.scan(lambda c, _: (c + w, None), jnp.bfloat16(0), None, 1000, **options)[0])(w)

    assert total(None) == 256
    assert total(jnp.float32) == 1000
    assert total(jnp.float32).dtype == jnp.bfloat16


def test_errors_come_at_once_or_with_what_is_feasible():
    step = lambda c, _: (jnp.sin(c), None)
    with pytest.raises(cg.OptionError, match="there are optimal"):
        cg.scan(step, X, None, 5, policy="greedy")
    with pytest.raises(cg.BudgetFormatError):
        cg.scan(step, X, None, 5, budget="lots")
    with pytest.raises(cg.BudgetError) as error:
        jax.grad(lambda x: cg.scan(step, x, None, 50, budget=10)[0].sum())(X)
    assert error.value.smallest > 10
    assert error.value.floor.bytes == error.value.smallest
    assert f"by the scan at {Path(__file__).name}:" in str(error.value)
    jax.grad(lambda x: cg.scan(step, x, None, 50, budget=error.value.multiple)[0].sum())(X)
    jax.grad(lambda x: cg.scan(step, x, None, 50, budget=error.value.smallest)[0].sum())(X)
    with pytest.raises(cg.OptionError, match="known length; use 'optimal' or 'revolve'"):
        jax.grad(lambda x: cg.while_loop(lambda c: c.sum() < 3, lambda c: c * 2, x, policy="store_all").sum())(X)


@pytest.mark.parametrize("policy", ["optimal", "store_all", "two_levels", "revolve"])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_loops_under_every_policy(policy, length):
    f = lambda x: cg.scan(lambda c, _: (jnp.sin(c), None), x, None, length, policy=policy)[0].sum()
    wanted = jax.grad(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length)[0].sum())(X)
    assert_same(jax.grad(f)(X), wanted, scale=4)


@pytest.mark.parametrize("length", [0, 1])
def test_short_loops_that_write_a_buffer(length):
    def f(x, scan):
        step = lambda s, _: ((s[0] + 1, s[1].at[s[0]].set(s[1][s[0] - 1] * 3)), None)
        return scan(step, (0, x), None, length=length)[0][1].sum()

    assert_same(jax.grad(f)(W[0], cg.scan), jax.grad(f)(W[0], lax.scan), scale=4)


def test_counters_that_start_at_a_python_number_are_known():
    """So a buffer that is written at them is kept out of the checkpoints."""
    rows, h = 2000, jnp.ones(64)

    def f(h):
        def step(s):
            i, h, buffer = s
            h = jnp.sin(h + buffer[i - 1])
            return i + 1, h, buffer.at[i].set(h)

        start = (0, h, jnp.zeros((rows, 64)))
        return cg.while_loop(lambda s: s[0] < rows, step, start)[2].sum()

    found = compiled_memory(jax.jit(jax.grad(f)).lower(h).compile()).temporary_bytes
    assert found <= 8 * rows * h.nbytes


@jax.custom_vjp
def by_its_rule(x):
    return jnp.cos(x)


by_its_rule.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (g * x,))


@jax.custom_vjp
def not_linear(x):
    return jnp.cos(x)


not_linear.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (g * g * x,))


@jax.custom_jvp
def tangents_not_linear(x):
    return jnp.cos(x)


tangents_not_linear.defjvp(lambda p, t: (jnp.cos(p[0]), t[0] * t[0] * p[0]))


def unplanned(body, init):
    return lax.scan(lambda c, _: (body(c), None), init, None, length=3)[0]


LOOPS = {
    "scan": lambda body, init: cg.scan(lambda c, _: (body(c), None), init, None, length=3)[0],
    "while": lambda body, init: cg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, body(c[1])), (0, init))[1],
}
EITHER = pytest.mark.parametrize("loop", ["scan", pytest.param("while", marks=pytest.mark.slow)])
CT, WEIGHTS = jnp.linspace(0.3, 1.2, 4), jnp.arange(4.0)
START = jnp.linspace(0.1, 0.9, 4)
SECOND = {
    "reverse": lambda m, f: m.grad(f, argnums=(0, 1))(START, CT),
    "forward": lambda m, f: m.jvp(f, (START, CT), (CT, WEIGHTS)),
    "batched": lambda m, f: jax.vmap(m.grad(f, argnums=(0, 1)))(jnp.stack([START, CT]), jnp.stack([CT, -CT])),
}


def derivative_of(rule, loop, moved):
    """What a first derivative of a loop makes of a point and of a direction, to be differentiated again."""

    def found(x, direction):
        def steps(a):
            return loop(lambda c: jnp.sin(0.8 * c + 0.3 * rule(a) * direction + rule(c)), a)

        return jnp.sum(WEIGHTS * moved(steps, x, direction))

    return found


def pulled(f, x, direction):
    return jax.vjp(f, x)[1](direction)[0]


def pushed(f, x, direction):
    return jax.jvp(f, (x,), (direction,))[1]


@pytest.mark.parametrize("asked", ["reverse", "forward", pytest.param("batched", marks=pytest.mark.slow)])
@EITHER
@pytest.mark.parametrize("rule", [by_its_rule, not_linear])
def test_a_pullback_of_a_loop_is_differentiated_towards_its_cotangent(rule, loop, asked):
    """Which a custom rule need not be linear in, and has no forward mode for."""
    ours = SECOND[asked](cg, derivative_of(rule, LOOPS[loop], pulled))
    theirs = SECOND[asked](jax, derivative_of(rule, unplanned, pulled))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@EITHER
def test_a_tangent_of_a_loop_is_differentiated_towards_its_direction(loop):
    ours = SECOND["forward"](cg, derivative_of(tangents_not_linear, LOOPS[loop], pushed))
    theirs = SECOND["forward"](jax, derivative_of(tangents_not_linear, unplanned, pushed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("grad", [cg.grad, jax.grad], ids=["ours", "JAX's"])
@EITHER
@pytest.mark.parametrize("rule", [by_its_rule, jax.nn.relu])
def test_loops_that_call_custom_rules_one_inside_the_other(rule, loop, grad):
    def loss(run):
        return lambda x: jnp.sum(WEIGHTS * run(lambda c: jnp.sin(run(lambda b: rule(b) * c, c)), x))

    ours, theirs = grad(loss(LOOPS[loop]))(START), jax.grad(loss(unplanned))(START)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
