"""`cg.frontier` and the options `saveable=` and `costs=`."""

from __future__ import annotations

import json

import pytest

import ckptgrad as cg
from tests.cases.marked_layers import WS, X, loss


def test_the_ends_are_the_least_and_the_fastest_plan():
    curve = cg.frontier(loss, WS, X)
    assert (
        curve.at("min").peak_bytes
        == cg.plan(loss, WS, X, budget="min", costs="estimate").peak_bytes
        == curve.smallest_peak_bytes
    )
    fastest = cg.plan(loss, WS, X, budget=curve.fastest_peak_bytes, costs="estimate")
    assert fastest.seconds == pytest.approx(curve.points[-1].seconds)
    assert fastest.simulation.recomputations == 0
    with pytest.raises(cg.BudgetError, match="held there, as predicted") as raised:
        curve.at(curve.smallest_peak_bytes - 1)
    assert raised.value.floor.bytes == curve.smallest_peak_bytes


def test_plans_are_those_of_the_frontier():
    curve = cg.frontier(loss, WS, X)
    assert len(curve.points) >= 10
    for point in curve.points[:: max(1, len(curve.points) // 6)]:
        plan = cg.plan(loss, WS, X, budget=point.peak_bytes, costs="estimate")
        assert plan.peak_bytes <= point.peak_bytes
        assert plan.seconds == pytest.approx(point.seconds)
    for budget in ("0.6x", "auto"):
        assert curve.at(budget).seconds == pytest.approx(cg.plan(loss, WS, X, budget=budget, costs="estimate").seconds)


def test_points_fall_and_no_policy_is_beyond_them():
    curve = cg.frontier(loss, WS, X)
    peaks, seconds = zip(*((p.peak_bytes, p.seconds) for p in curve.points), strict=True)
    assert list(peaks) == sorted(set(peaks))
    assert list(seconds) == sorted(set(seconds), reverse=True)
    for other in curve.others:
        within = [p for p in curve.points if p.peak_bytes <= other.peak_bytes]
        assert within
        assert within[-1].seconds <= other.seconds * (1 + 1e-9)


def test_as_text_and_json():
    curve = cg.frontier(loss, WS, X)
    text = str(curve)
    assert "budgets at which the plan changes" in text
    assert "store_all" in text
    assert len(json.loads(curve.to_json())["points"]) == len(curve.points)


def test_stages_over_chunks_are_on_the_frontier_where_they_are_asked_for():
    whole, chunked = (cg.frontier(loss, WS, X, chunks=chunks) for chunks in (False, True))
    assert chunked.smallest_peak_bytes < whole.smallest_peak_bytes
    assert chunked.smallest_peak_bytes == cg.plan(loss, WS, X, budget="min", costs="estimate", chunks=True).peak_bytes


def test_a_policy_beside_the_optimal_one():
    alone, beside = cg.frontier(loss, WS, X), cg.frontier(loss, WS, X, policy="rotor")
    assert beside.points == alone.points
    assert {p.policy.partition(" within ")[0] for p in {*beside.others} - {*alone.others}} == {"rotor"}
    with pytest.raises(cg.OptionError, match="no policy is called"):
        cg.frontier(loss, WS, X, policy="greedy")
