"""A plan: its figures, and what it says about itself."""

from __future__ import annotations

import json
from dataclasses import replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.planning.referee import simulate
from ckptgrad.results.outcomes import OUTCOMES, Outcome

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(**options):
    return cg.plan(loss, [W] * 6, X, costs="estimate", **options)


@pytest.fixture(scope="module")
def least():
    return plan_of(budget="min")


def test_figures_are_those_of_the_referee(least):
    found = simulate(least.schedule, least.costs)
    assert (least.peak_bytes, least.seconds) == (found.peak, found.time)
    # The loss, and the gradients of six matrices.
    assert least.temporary_bytes == least.peak_bytes - 4 - 6 * W.nbytes
    assert least.least_seconds <= least.seconds


def test_the_knee_is_named_only_where_an_optimal_plan_is_below_it(least):
    knee = least.knee
    assert knee.peak_bytes > least.peak_bytes
    assert knee.seconds < least.seconds
    assert plan_of(budget=knee.peak_bytes).knee is None
    assert plan_of().knee is None
    assert plan_of(policy="recompute_all").knee is None


def test_choices_are_the_options_that_backwards_start_from(least):
    """The last forward that keeps something counts."""
    assert least.choices == [least.costs.stages[i].options[least.schedule.kept[i]].name for i in range(6)]
    assert len({*plan_of(policy="store_all").choices}) <= 3


def test_what_it_took_is_known_of_fenced_stages_alone(least):
    plan = replace(least, schedule=replace(least.schedule, policy="one of its own"))
    assert plan.found is None
    OUTCOMES.put(plan.program, plan.schedule, Outcome(12345))
    assert plan.found == Outcome(12345)
    assert replace(plan, fenced=False).found is None


def test_plain_data_is_json(least):
    data = json.loads(least.to_json())
    assert data["peak_bytes"] == least.peak_bytes == data["budget_bytes"]
    assert (data["stages"], data["distinct_stages"]) == (6, len(least.program.kinds))
    assert data["schedule"] == [str(action) for action in least.schedule]
    assert data["recomputed_stages"] == least.schedule.forwards - 6
    assert data["knee"]["peak_bytes"] == least.knee.peak_bytes
    assert (data["borrowed_rules"], data["fenced"]) == ([], True)


def test_its_timeline_is_called_by_name(least):
    assert least.timeline("mine").name == "mine"
    assert least.timeline().peak_bytes == least.peak_bytes
