"""`cg.frontier` and the options `saveable=` and `costs=`."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import ckptgrad as cg
from ckptgrad.planning import ChainCosts
from ckptgrad.planning.frontier import frontier_points, policy_points
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate
from tests.support.compare import assert_same

WS = [jnp.eye(16) * 0.3 + 0.01 * k for k in range(10)]
X = jnp.linspace(-1, 1, 256 * 16).reshape(256, 16)


def layer(w, x):
    h = checkpoint_name(x @ w, "product")
    return x + checkpoint_name(jnp.tanh(jnp.sin(h)), "branch") @ w.T


def loss(ws, x):
    for w in ws:
        x = layer(w, x)
    return (x**2).mean()


def test_the_ends_are_the_least_and_the_fastest_plan():
    curve = cg.frontier(loss, WS, X)
    assert curve.at("min").peak_bytes == cg.plan(loss, WS, X, budget="min").peak_bytes == curve.smallest_peak_bytes
    fastest = cg.plan(loss, WS, X, budget=curve.fastest_peak_bytes)
    assert fastest.seconds == pytest.approx(curve.points[-1].seconds)
    assert fastest.simulation.recomputations == 0
    with pytest.raises(cg.BudgetError):
        curve.at(curve.smallest_peak_bytes - 1)


def test_plans_are_those_of_the_frontier():
    curve = cg.frontier(loss, WS, X)
    assert len(curve.points) >= 10
    for point in curve.points[:: max(1, len(curve.points) // 6)]:
        plan = cg.plan(loss, WS, X, budget=point.peak_bytes)
        assert plan.peak_bytes <= point.peak_bytes
        assert plan.seconds == pytest.approx(point.seconds)
    for budget in ("0.6x", "auto"):
        assert curve.at(budget).seconds == pytest.approx(cg.plan(loss, WS, X, budget=budget).seconds)


def test_points_fall_and_no_policy_is_beyond_them():
    curve = cg.frontier(loss, WS, X)
    peaks, seconds = zip(*((p.peak_bytes, p.seconds) for p in curve.points), strict=True)
    assert list(peaks) == sorted(set(peaks))
    assert list(seconds) == sorted(set(seconds), reverse=True)
    for other in curve.others:
        within = [p for p in curve.points if p.peak_bytes <= other.peak_bytes]
        assert within
        assert within[-1].seconds <= other.seconds * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_random_chains(seed):
    """Short ones, where schedules that are not nested are searched too."""
    costs = random_chain(5, 2, seed)
    for point in frontier_points(costs):
        found = simulate(get_policy("optimal")(costs, point.peak_bytes), costs)
        assert found.time == pytest.approx(point.seconds)
    assert {p.policy for p in policy_points(costs)} >= {"store_all", "sqrt", "every 2"}


def test_a_chain_beyond_tables():
    points = frontier_points(ChainCosts.uniform(4500))
    assert len(points) > 5
    assert points[0].peak_bytes < 100


def test_as_text_and_json():
    curve = cg.frontier(loss, WS, X)
    text = str(curve)
    assert "budgets at which the plan changes" in text
    assert "store_all" in text
    assert len(json.loads(curve.to_json())["points"]) == len(curve.points)


def kept(**options):
    plan = cg.plan(loss, WS, X, **options)
    found = set()
    for kind in plan.program.kinds:
        for option in kind.options:
            made = {v: op.name for op in option.partition.joint.operations for v in op.outputs}
            found |= {made[v] for v in option.partition.residuals}
    return found


def test_only_what_may_be_saved_is_kept():
    policies = jax.checkpoint_policies
    assert {"tanh", "cos", "dot_general"} & kept()
    assert kept(saveable=policies.dots_saveable) <= {"dot_general"}
    assert kept(saveable=policies.nothing_saveable) == set()
    assert kept(saveable=policies.save_only_these_names("product")) == {"name"}
    assert kept(saveable=policies.save_only_these_names("no such name")) == set()


def test_saveable_changes_no_gradient():
    wanted = jax.grad(loss)(WS, X)
    for saveable in (jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.save_only_these_names("branch")):
        assert_same(cg.grad(loss, saveable=saveable)(WS, X), wanted, scale=8)
        assert_same(cg.grad(loss, saveable=saveable, budget="0.5x")(WS, X), wanted, scale=8)


@pytest.mark.parametrize("costs", ["compile", "measure"])
def test_costs_by_xla_and_by_the_clock(costs):
    plan = cg.plan(loss, WS, X, budget="0.5x", costs=costs)
    estimated = cg.plan(loss, WS, X, budget="0.5x")
    assert plan.peak_bytes > 0
    transients = [[o.backward_transient for o in s.options] for s in plan.costs.stages]
    assert transients != [[o.backward_transient for o in s.options] for s in estimated.costs.stages]
    times = [s.forward_time for s in plan.costs.stages]
    assert (times == [s.forward_time for s in estimated.costs.stages]) == (costs == "compile")
    assert all(t > 0 for t in times)


def test_unknown_costs_are_refused():
    with pytest.raises(cg.OptionError, match="guess"):
        cg.grad(loss, costs="guess")


def test_calibration_is_used():
    before = cg.plan(loss, WS, X).seconds
    try:
        rates = cg.calibrate()
        assert rates.product_rate > 0
        assert cg.plan(loss, WS, X).seconds != before
    finally:
        from ckptgrad.target.attached import forget_measured_rates

        forget_measured_rates()
    assert cg.plan(loss, WS, X).seconds == before
