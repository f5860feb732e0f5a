"""Other policies are as good, better or worse as plans by them are."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.planning.policy import unregister
from ckptgrad.results.advice import policies

X, W = jnp.ones((256, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(budget=None, **options):
    return cg.plan(loss, [W] * 12, X, costs="estimate", budget=budget, **options)


def said(plan):
    (advice,) = [advice for advice in plan.advice if advice.kind == "policies"]
    return advice


@pytest.mark.parametrize("budget", [None, "1x", "0.5x", "0.3x"])
def test_times_are_those_of_plans_by_other_policies(budget):
    plan = plan_of(budget)
    times = said(plan).figures["times"]
    assert times
    for name, ratio in times.items():
        other = plan_of(said(plan).figures["limit_bytes"], policy=name)
        assert other.seconds / plan.seconds == pytest.approx(ratio)
    alike = [name for name, ratio in times.items() if abs(ratio - 1) <= 0.01]
    assert ("as good" in said(plan).text.split(":")[0] and "no other" not in said(plan).text) == bool(alike)
    assert all(repr(name) in said(plan).text for name in alike)


def test_a_better_policy_is_named():
    plan = plan_of("0.8x", policy="sqrt")
    saved = 1 - plan_of("0.8x").seconds / plan.seconds
    assert saved > 0.01
    assert said(plan).text == f"policy 'optimal' takes {saved:.0%} less time within as many bytes"


def test_those_that_do_not_fit_are_not_named(monkeypatch):
    least = plan_of("min")
    assert [*said(least).figures["times"]] == ["revolve"]
    for name in ("store_all", "sqrt"):
        with pytest.raises(cg.BudgetError):
            plan_of(least.budget, policy=name)
    monkeypatch.setattr(policies, "registered", dict)
    assert said(plan_of("min")).text == "no other policy fits into as many bytes"


def test_policies_of_users_are_not_run():
    @cg.policy("mine")
    def mine(costs, budget=None):
        raise AssertionError

    try:
        assert "mine" not in said(plan_of("0.5x")).figures["times"]
    finally:
        unregister("mine")


def test_open_plans_are_not_compared():
    assert not [advice for advice in replace(plan_of(), fenced=False).advice if advice.kind == "policies"]
