"""The rules of `scan` and `while`: forward mode in one loop, reverse mode left to a plan or not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.trace import trace
from ckptgrad.graph.work import flops
from tests.support.compare import assert_same, quick
from tests.support.joint_graphs import joint_of

W, X, XS = jnp.array([0.9, 0.5]), jnp.array([1.0, 2.0]), jnp.linspace(-1, 1, 8).reshape(4, 2)


def scanned(w, x, xs):
    """Of the results the count has no tangent, and the last stacked one does not depend on what is differentiated."""
    step = lambda c, a: ((c[0] + 1, c[1] * w + a), (c[1].sum(), c[0] * 0.5))
    return lax.scan(step, (0, x), xs, reverse=True)


def whiled(w, x):
    return lax.while_loop(lambda c: c[1].sum() < 9, lambda c: (c[0] + 1, c[1] * (1 + w)), (0, x))


@pytest.mark.parametrize(("fun", "args"), [(scanned, (W, X, XS)), (whiled, (W, X))])
def test_forward_mode_as_jax(fun, args):
    tangents = jax.tree.map(jnp.cos, args)
    assert_same(*quick(lambda: (cg.jvp(fun, args, tangents), jax.jvp(fun, args, tangents)))(), scale=4)


def test_a_tangent_that_is_not_read_is_not_carried():
    """Only the first state is asked for, and it does not depend on the second."""

    def first(x):
        return lax.scan(lambda c, _: ((c[0] * 2, jnp.sin(c[1]) * c[0]), None), (x, x), None, length=4)[0][0]

    jaxpr = jax.make_jaxpr(lambda x: cg.jvp(first, (x,), (x,)))(X)
    (loop,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    assert "cos" not in {eqn.primitive.name for eqn in loop.params["jaxpr"].eqns}


def opened(fun, *args):
    return "loop_forward" in {op.name for op in joint_of(fun, *args, planned=True).operations}


def test_which_loops_are_left_to_a_plan():
    def talking(x):
        def step(c, _):
            jax.debug.print("{}", c.sum())
            return c * 2, None

        return lax.scan(step, x, None, length=4)[0]

    assert opened(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0], X)
    assert opened(lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x), X)
    # Of one step there is nothing to choose, and what a step says must be said once.
    assert not opened(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=1)[0], X)
    assert not opened(talking, X)


@pytest.mark.parametrize("mode", ["forward", pytest.param("reverse", marks=pytest.mark.slow)])
def test_each_entry_of_a_batch_ends_by_itself(mode):
    """Under `vmap` the predicate has a batch of its own: entries that have ended stay as they are."""
    batch = jnp.stack([X, 0.1 * X, 20 * X])
    steps = [int(whiled(W, x)[0]) for x in batch]
    assert steps[2] == 0 < steps[0] < steps[1]

    def ours(w):
        loss = lambda w: (jax.vmap(lambda x: whiled(w, x)[1])(batch) * jnp.cos(batch)).sum()
        return cg.jvp(loss, (w,), (X,))[1] if mode == "forward" else cg.grad(loss)(w)

    def theirs(w):
        loss = lambda w: sum((x * (1 + w) ** n * jnp.cos(x)).sum() for n, x in zip(steps, batch, strict=True))
        return jax.jvp(loss, (w,), (X,))[1] if mode == "forward" else jax.grad(loss)(w)

    assert_same(*quick(lambda w: (ours(w), theirs(w)))(W), scale=40)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_work_of_a_scan_is_that_of_its_steps(steps):
    """A vector of three times a matrix takes 18 operations."""
    run = lambda w, x: lax.scan(lambda c, _: (c @ w, None), x, None, length=steps)[0]
    (op,) = trace(run, jnp.eye(3), jnp.ones(3)).operations
    assert flops(op) == 18 * steps


IDLE = {
    "carried": lambda w: lax.scan(lambda c, _: ((c[0] * 2, jnp.sqrt(c[1])), None), (w, w), None, length=3)[0][0],
    "of constants": lambda w: lax.scan(lambda c, _: ((c[0] * (2 + w), c[1] + w**0.5), None), (w, w), None, length=3)[0][0],
    "in turn": lambda w: lax.fori_loop(0, 3, lambda i, c: (c[0] + i * w, c[2], jnp.sqrt(c[1])), (w, w, w))[0],
    "until": lambda w: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + 1, jnp.sqrt(c[2])), (w, 0, w))[0],
}


@pytest.mark.parametrize("fun", IDLE.values(), ids=IDLE)
@pytest.mark.parametrize("options", [{}, {"budget": "min"}])
def test_what_is_carried_for_nothing_gets_no_zeros(fun, options):
    """They are nan where they meet an infinite derivative."""
    tangents = jax.jvp(fun, (jnp.zeros(2),), (jnp.ones(2),))[1]
    assert_same(quick(cg.grad(lambda w: fun(w).sum(), **options))(jnp.zeros(2)), tangents)
