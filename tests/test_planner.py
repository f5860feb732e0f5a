"""Which budget a plan is made for."""

from __future__ import annotations

import jax.numpy as jnp

import ckptgrad as cg

X = jnp.array([1.0, 2.0])


def total(x):
    return jnp.sum(x * x)


def test_relative_budgets_and_words():
    whole = cg.plan(total, X, budget="1x").budget
    assert cg.plan(total, X, budget="3x").budget == 3 * whole
    assert cg.plan(total, X, budget="min").budget <= whole
    assert cg.plan(total, X, budget="auto").budget > 2**20
    assert cg.plan(total, X).budget is None
