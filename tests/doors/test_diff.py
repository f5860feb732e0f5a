"""`cg.diff` takes what other doors return, two of a kind."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import OptionError

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_certificates_of_steps_are_compared_by_argument():
    def step(ws, x):
        return [w + 1 for w in ws], jnp.sum(x)

    before, after = cg.certify(step, [W] * 2, X), cg.certify(step, [W] * 3, X, donate_argnums=0)
    for found in (cg.diff(before, after), cg.diff(before.certificate, after.certificate)):
        assert found.kind == "certificate"
        named = {change.name: change for change in found.held}
        assert (named["ws"].what, named["ws"].by) == ("grew", W.nbytes)
        assert named["results"].what == "shrank"
        assert "x" not in named
        assert found.totals[0].by == after.peak_bytes - before.peak_bytes


def test_certified_gradients_are_compared_by_their_certified_bytes():
    before, after = (cg.value_and_grad(loss, policy=p).compile([W] * 4, X) for p in ("store_all", "recompute_all"))
    found = cg.diff(before, after)
    peak = found.totals[0]
    assert (peak.before, peak.after) == (before.peak_bytes, after.peak_bytes)
    assert found.stage_counts == (4, 4)


def test_two_of_a_kind_are_asked_for():
    plan = cg.plan(loss, [W] * 2, X)
    with pytest.raises(OptionError, match="was given a plan and a timeline"):
        cg.diff(plan, plan.timeline())
    with pytest.raises(OptionError, match="not what is of type int"):
        cg.diff(plan, 3)
