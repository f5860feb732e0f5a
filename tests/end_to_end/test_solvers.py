"""Solvers from other packages that define primitives of their own: Diffrax, Lineax."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import pytest

import ckptgrad as cg
from ckptgrad.autodiff.rule import unregister
from tests.support.compare import assert_same, quick

RATE, START = jnp.float32(0.7), jnp.array([1.0, 2.0])


def adaptive(rate, start):
    """An ODE with adaptive steps; DirectAdjoint differentiates the solver itself."""
    term = diffrax.ODETerm(lambda t, y, args: -args * y + jnp.sin(y[::-1]))
    solution = diffrax.diffeqsolve(
        term,
        diffrax.Tsit5(),
        0.0,
        1.0,
        0.1,
        start,
        args=rate,
        saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 1.0, 3)),
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-4),
        adjoint=diffrax.DirectAdjoint(),
        max_steps=32,
    )
    return (solution.ys**2).sum()


@pytest.mark.parametrize("budget", [pytest.param(None, marks=pytest.mark.slow), "min"])
def test_diffrax_with_direct_adjoint(budget):
    ours = quick(cg.value_and_grad(adaptive, (0, 1), budget=budget))(RATE, START)
    assert_same(ours, quick(jax.value_and_grad(adaptive, (0, 1)))(RATE, START), scale=20)


@pytest.mark.slow
def test_diffrax_under_vmap():
    rates = jnp.array([0.5, 0.9])
    ours = quick(jax.vmap(cg.grad(adaptive), (0, None)))(rates, START)
    assert_same(ours, quick(jax.vmap(jax.grad(adaptive), (0, None)))(rates, START), scale=20)


def solve(a, b):
    operator = lx.MatrixLinearOperator(a @ a.T + 3 * jnp.eye(3), lx.positive_semidefinite_tag)
    return (lx.linear_solve(operator, b, lx.Cholesky()).value ** 2).sum()


def test_lineax_with_a_rule_borrowed_from_jax():
    a, b = jnp.arange(9.0).reshape(3, 3) / 9, jnp.array([1.0, -1, 2])
    with pytest.raises(cg.MissingRuleError, match="linear_solve"):
        cg.grad(solve)(a, b)
    cg.use_jax_rule("linear_solve")
    try:
        assert_same(cg.grad(solve, (0, 1))(a, b), jax.grad(solve, (0, 1))(a, b), scale=20)
        assert cg.plan(solve, a, b).borrowed == ["linear_solve"]
    finally:
        unregister("linear_solve")
