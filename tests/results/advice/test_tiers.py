"""A tier of the size that is named keeps the budget with as few forwards repeated as is said."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.bytes import resolve_budget
from ckptgrad.planning.makespan import Rates
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.referee import simulate
from ckptgrad.planning.schedule import Fetch, Forward, Free, Offload, Schedule
from ckptgrad.planning.transfers import Room, sent_at
from ckptgrad.results.advice.tiers import most_away
from ckptgrad.target.target import described

X, W = jnp.ones((256, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(budget=None, **options):
    return cg.plan(loss, [W] * 16, X, costs="estimate", budget=budget, **options)


def said(plan):
    return [advice for advice in plan.advice if advice.kind == "tiers"]


def test_a_disk_of_that_size_is_enough():
    """A program on a CPU runs in the host's memory, so that this is no tier."""
    plan = plan_of("0.4x")
    (advice,) = said(plan)
    figures = advice.figures
    kind, _, size = figures["tier"].split(":")
    assert kind == "disk"
    capacity = resolve_budget(size, lambda: 0, lambda: 0, lambda: 0)
    assert capacity == figures["bytes"]

    def sent(capacity):
        rooms = [Room(capacity, Rates(1.0, 1.0))]
        return next(sent_at(plan.costs, plan.budget, rooms, get_policy("optimal")), None)

    schedule = sent(capacity)
    assert simulate(schedule, plan.costs).peak <= plan.budget
    assert schedule.recomputations == figures["repeated"] < figures["instead_of"] == plan.simulation.recomputations
    assert most_away(plan.costs, schedule) <= capacity
    assert sent(most_away(plan.costs, schedule) - 1) != schedule


def test_nothing_is_said_where_nothing_is_repeated_or_nothing_can_run():
    assert said(plan_of()) == []
    assert said(plan_of("1x")) == []
    assert said(plan_of("0.4x", target=described("cuda"))) == []
    assert said(replace(plan_of("0.4x"), makespan=1.0)) == []


def test_what_tiers_hold_at_once():
    costs = plan_of().costs
    one = costs.boundary_bytes(1)
    actions = (Forward(0), Offload(1, 0), Forward(1), Offload(2, 0), Fetch(1, 0), Free(1), Offload(3, 0))
    assert most_away(costs, Schedule(actions, "mine")) == 2 * one
