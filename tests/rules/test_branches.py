"""`cond` and `switch`: each branch is differentiated, and the same index chooses among the results."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import assert_same, quick
from tests.support.joint_graphs import joint_of

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])

BRANCHES = {
    "operands in one branch only": lambda x, y: lax.cond(x[0] > 0, lambda x, y: x * y, lambda x, y: x * 2, x, y),
    "a constant branch": lambda x, y: lax.cond(x[0] > 0, lambda x, y: jnp.ones(3), lambda x, y: x * y, x, y) * y,
    "the other branch": lambda x, y: lax.cond(x[0] > 5, lambda x, y: jnp.ones(3), lambda x, y: x * y, x, y) * y,
    "closed over": lambda x, y: lax.cond(x[0] > 0, lambda: x * y, lambda: y),
    "switch": lambda x, y: lax.switch(2, [lambda x: x, jnp.sin, lambda x: x * y, jnp.cos], x),
    "switch out of range": lambda x, y: lax.switch(9, [lambda x: x * y, jnp.sin], x),
    "tree of outputs": lambda x, y: lax.cond(x[0] > 0, lambda: (x, {"a": y * y}), lambda: (y, {"a": x}))[1]["a"],
    "integers inside": lambda x, y: lax.cond(x[0] > 0, lambda: x[jnp.argmax(y)] * y, lambda: y * 1.0),
    "nested": lambda x, y: lax.cond(x[0] > 0, lambda: lax.cond(y[0] > 2, lambda: x, lambda: jnp.sin(x * y)), lambda: y),
    "predicate by differentiated values": lambda x, y: jnp.where(lax.cond(x.sum() > 0, lambda: True, lambda: False), x, y),
    "in vmap": lambda x, y: jax.vmap(lambda a, b: lax.cond(a > 0, jnp.sin, lambda v: v * b, a))(x, y),
    "loop in a branch": lambda x, y: lax.cond(x[0] > 0, lambda: lax.fori_loop(0, 3, lambda i, c: c * y, x), lambda: y),
}  # fmt: skip


@pytest.mark.parametrize("fun", BRANCHES.values(), ids=BRANCHES)
def test_branches(fun):
    def gradients(gradient):
        return gradient(lambda x, y: (fun(x, y) * Y).sum(), (0, 1))(X, Y)

    assert_same(*quick(lambda: (gradients(cg.grad), gradients(jax.grad)))(), scale=8)


def conds(fun):
    """The `cond` operations of the forward and of the backward of a function, and the primitives in each branch."""
    found = [op for op in joint_of(fun, X).operations if op.name == "cond"]
    return found, [[{eqn.primitive.name for eqn in branch.eqns} for branch in op.params["branches"]] for op in found]


def test_residuals_of_all_branches_share_their_places():
    """Each branch keeps two exponentials: there are two places for them, beside the result."""

    def fun(x):
        return lax.cond(x[0] > 0, lambda x: jnp.exp(jnp.exp(x)), lambda x: jnp.exp(jnp.exp(-x)), x)

    (forward, _), _ = conds(fun)
    assert [v.shape for v in forward.outputs] == [(3,)] * 3


def test_what_a_branch_needs_stays_in_it():
    """The derivative of the sine is in its own branch alone."""
    _, (forward, backward) = conds(lambda x: lax.cond(x[0] > 0, jnp.sin, lambda x: x**3, x))
    assert sorted("sin" in names for names in forward) == [False, True]
    assert sum("cos" in names for names in (*forward, *backward)) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_in_forward_mode_an_output_that_moves_in_some_branch_has_a_tangent(index):
    """Zeros in the branch in which it does not move."""
    fun = lambda x: lax.switch(index, [lambda x: (x * 2, Y), lambda x: (Y, jnp.sin(x))], x)
    _, (first, second) = cg.jvp(fun, (X,), (Y,))
    np.testing.assert_allclose(first, [2 * Y, 0 * Y][index], rtol=1e-6)
    np.testing.assert_allclose(second, [0 * Y, jnp.cos(X) * Y][index], rtol=1e-6)


def test_a_result_that_nothing_reads_gets_no_zeros():
    """They are nan where they meet an infinite derivative."""

    def loss(x):
        return lax.cond(x[0] < 1, lambda: (2 * x, jnp.sqrt(x)), lambda: (x, x))[0].sum()

    for options in ({}, {"policy": "recompute_all"}):
        assert_same(quick(cg.grad(loss, **options))(jnp.zeros(3)), jax.grad(loss)(jnp.zeros(3)))
