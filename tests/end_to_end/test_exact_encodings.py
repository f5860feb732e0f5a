"""Masks are kept as bits without being asked for, where a budget is better kept so; the gradient is equal in all bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg

WS, X = (
    [jnp.sin(jnp.arange(64 * 64.0) + k).reshape(64, 64) / 4 for k in range(4)],
    jnp.cos(jnp.arange(64.0 * 512)).reshape(512, 64),
)


def loss(ws, x):
    for w in ws:
        x = jax.nn.relu(x @ w)
    return jnp.mean(x**2)


@pytest.fixture(scope="module")
def plans():
    budgets = [None, "0.9x", "0.75x", "min"]
    options = {"costs": "estimate", "policy": "optimal"}
    return {b: [cg.plan(loss, WS, X, budget=b, encodings=e, **options) for e in ("auto", None)] for b in budgets}


def test_plans_without_a_budget_are_as_they_were(plans):
    ours, plain = plans[None]
    assert (ours.encodings, ours.peak_bytes, ours.seconds) == ((), plain.peak_bytes, plain.seconds)


def test_no_plan_is_slower_and_some_use_bits(plans):
    for budget, (ours, plain) in plans.items():
        assert ours.seconds <= plain.seconds * (1 + 1e-12) or budget == "min"
        assert plain.encodings == ()
    assert plans["0.9x"][0].encodings == ("bits",)
    assert plans["0.9x"][0].seconds < plans["0.9x"][1].seconds
    assert plans["min"][0].peak_bytes <= plans["min"][1].peak_bytes


def test_a_plan_with_bits_is_followed_when_its_schedule_is_given(plans):
    ours = plans["0.9x"][0]
    again = cg.plan(loss, WS, X, policy=ours.schedule, costs="estimate")
    assert (again.encodings, again.peak_bytes) == (("bits",), ours.peak_bytes)
    found = jax.jit(cg.grad(loss, policy=ours.schedule))(WS, X)
    plain = jax.jit(cg.grad(loss, budget="0.9x", encodings=None, costs="estimate"))(WS, X)
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_differentiated_is_shared_with_plans_without_codes(plans):
    ours, plain = plans["0.9x"]
    coded = [k for k in ours.program.kinds if k.encodings]
    assert coded
    joints = {id(k.joint) for k in plain.program.kinds}
    assert all(id(k.joint) in joints for k in coded)


def test_the_frontier_has_plans_with_codes(plans):
    budget = plans["0.9x"][0].budget
    curve, without = (cg.frontier(loss, WS, X, costs="estimate", encodings=e).at(budget) for e in ("auto", None))
    assert curve.seconds < without.seconds
