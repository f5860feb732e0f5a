"""Advice is found by its files, ordered, made once and only where it is asked for; and it is plain data."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.results.advice import advice as room
from ckptgrad.results.advice.advice import Advice, advice_on, adviser

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(**options):
    return cg.plan(loss, [W] * 8, X, costs="estimate", **options)


def test_every_file_advises():
    plan_of().advice  # noqa: B018
    files = {file.stem for file in Path(room.__file__).parent.glob("*.py")} - {"__init__", "advice"}
    assert files == {*room._REGISTRY}
    orders = [order for order, _ in room._REGISTRY.values()]
    assert len({*orders}) == len(orders)


def test_it_is_in_the_order_in_which_it_is_registered_and_made_once():
    plan = plan_of(budget="0.5x")
    kinds = list(dict.fromkeys(advice.kind for advice in plan.advice))
    assert kinds == sorted(kinds, key=lambda kind: room._REGISTRY[kind][0])
    assert kinds[0] == "peak"
    assert plan.advice is plan.advice


def test_planning_does_not_make_it(monkeypatch):
    asked = []

    @adviser(order=99)
    def advise(plan):
        asked.append(plan)
        yield "a sentence", {"bytes": 3}

    monkeypatch.setitem(room._REGISTRY, "mine", room._REGISTRY.pop(__name__.rpartition(".")[2]))
    plan = plan_of()
    assert not asked
    assert advice_on(plan)[-1] == Advice("mine", "a sentence", {"bytes": 3})
    assert str(plan).endswith("- a sentence")
    assert plan.to_dict()["advice"][-1] == {"kind": "mine", "text": "a sentence", "figures": {"bytes": 3}}


def test_it_is_plain_data():
    written = json.loads(plan_of(budget="0.5x").to_json())["advice"]
    assert {advice["kind"] for advice in written} >= {"peak", "budgets"}
