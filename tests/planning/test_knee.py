"""The knee of a frontier, and where it is shown."""

from __future__ import annotations

import json

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.bytes import format_bytes
from ckptgrad.planning import ChainCosts
from ckptgrad.planning.frontier import Point, frontier_points, quick_points
from ckptgrad.planning.knee import knee_of
from ckptgrad.planning.random_chains import random_chain

WS = [jnp.eye(16)] * 16
X = jnp.ones((512, 16))


def loss(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def test_the_knee_is_farthest_from_the_line_between_the_ends():
    points = [Point(10, 9.0), Point(14, 5.0), Point(20, 1.5), Point(30, 1.2), Point(50, 1.0)]
    assert knee_of(points) == points[2]
    # In other units it is the same point.
    scaled = [Point(p.peak_bytes * 1000, p.seconds / 7 + 3) for p in points]
    assert knee_of(scaled) == scaled[2]


@pytest.mark.parametrize(
    "points", [[Point(1, 2.0)], [Point(1, 2.0), Point(3, 1.0)], [Point(1, 3.0), Point(2, 2.9), Point(3, 1.0)]]
)
def test_a_curve_that_does_not_sag_has_none(points):
    assert knee_of(points) is None


@pytest.mark.parametrize("seed", range(3))
def test_quick_points_are_those_of_the_frontier_where_nothing_is_searched(seed):
    costs = random_chain(10, 2, seed)
    assert quick_points(costs) == frontier_points(costs)


def test_a_chain_beyond_exact_curves_has_a_knee_and_one_beyond_tables_none():
    costs = random_chain(60, 2, 0)
    points = quick_points(costs)
    knee = knee_of(points)
    assert points[0].peak_bytes < knee.peak_bytes < points[-1].peak_bytes
    assert not quick_points(ChainCosts.uniform(4500))


def test_the_smallest_plan_is_shown_with_the_knee():
    plan, curve = cg.plan(loss, WS, X, budget="min"), cg.frontier(loss, WS, X)
    knee = plan.knee
    assert knee == curve.knee
    assert plan.peak_bytes < knee.peak_bytes < curve.fastest_peak_bytes
    # Half as many bytes again save more than half of the time.
    assert knee.peak_bytes < 1.5 * plan.peak_bytes
    assert plan.seconds > 2 * knee.seconds
    at_knee = cg.plan(loss, WS, X, budget=knee.peak_bytes)
    assert at_knee.seconds == pytest.approx(knee.seconds)
    words, fastest = " ".join(str(plan).split()), curve.points[-1].seconds
    assert f"estimated time {plan.seconds / fastest:.2f} times" in words
    assert f"knee with {format_bytes(knee.peak_bytes)}, " in words
    assert f"it is {knee.seconds / fastest:.2f} times" in words
    assert json.loads(plan.to_json())["knee"] == {"peak_bytes": knee.peak_bytes, "seconds": knee.seconds}
    assert "\nknee " in str(plan)
    assert "optimal, the knee" in str(curve)
    assert json.loads(curve.to_json())["knee"]["peak_bytes"] == knee.peak_bytes


def test_plans_at_or_beyond_the_knee_are_shown_without_it():
    knee = cg.frontier(loss, WS, X).knee
    for plan in (
        cg.plan(loss, WS, X),
        cg.plan(loss, WS, X, budget=knee.peak_bytes),
        cg.plan(loss, WS, X, policy="recompute_all"),
    ):
        assert plan.knee is None
        assert "\nknee " not in str(plan)
