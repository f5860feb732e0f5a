"""Chunks are suggested where they lower the smallest peak, and only where entries are independent."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from ckptgrad.bytes import as_budget

WIDTH, HIDDEN, BATCH = 32, 512, 64
WS = [np.ones((WIDTH, HIDDEN), "float32")] * 3
X = np.ones((BATCH, WIDTH), "float32")


def plan_of(fun, *args, **options):
    return cg.plan(fun, *args, costs="estimate", budget="min", **options)


def said(plan):
    return [advice for advice in plan.advice if advice.kind == "chunks"]


def mlp(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w) @ w.T
    return jnp.mean(x**2)


def test_a_stage_whose_entries_are_independent():
    plan = plan_of(mlp, WS, X)
    (advice,) = said(plan)
    assert HIDDEN in advice.figures["axes"]
    assert advice.figures["inside_bytes"] == plan.at_peak.by_kind["inside the backward"]
    chunked = plan_of(mlp, WS, X, chunks=True)
    assert chunked.peak_bytes < plan.peak_bytes
    assert said(chunked) == []


def test_where_stages_hold_much_a_smaller_budget_is_enough_to_have_chunks():
    x = np.ones((16 * BATCH, WIDTH), "float32")
    plan = cg.plan(mlp, WS, x, costs="estimate")
    (advice,) = said(plan)
    least, _ = as_budget(plan.floor.bytes)
    assert advice.text.startswith(f"with a budget below {least} stages run over chunks, where that is smaller: the ")
    assert plan_of(mlp, WS, x).peak_bytes < plan_of(mlp, WS, x, chunks=False).peak_bytes
    assert said(plan_of(mlp, WS, X))[0].text.startswith("chunks=True may lower the smallest peak: ")


def test_what_is_said_follows_what_was_asked_for():
    x = np.ones((16 * BATCH, WIDTH), "float32")
    (advice,) = said(cg.plan(mlp, WS, x, costs="estimate", chunks=False))
    assert advice.text.startswith("chunks=True may lower the smallest peak: ")
    assert said(cg.plan(mlp, WS, x, costs="estimate", chunks="not axis 0 of x")) == []


def test_nothing_is_said_where_entries_depend_on_each_other():
    def mixing(x):
        for _ in range(3):
            x = cg.stage(lambda x: jnp.linalg.inv(x @ x.T @ x))(x)
        return jnp.sum(x)

    assert said(plan_of(mixing, jnp.eye(32))) == []


def test_nothing_is_said_where_boundaries_set_the_peak():
    def thin(x, ws):
        for w in ws:
            x = cg.stage(lambda w, x: x * w)(w, x)
        return jnp.sum(x)

    plan = plan_of(thin, jnp.ones(64), [jnp.ones(64)] * 3)
    assert sum(size for kind, size in plan.floor.at_peak.by_kind.items() if "inside" in kind) < 0.1 * plan.peak_bytes
    assert said(plan) == []
