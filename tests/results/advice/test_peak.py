"""What is said to set the peak is what the predicted timeline holds there."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg

X, W, WIDE = jnp.ones((64, 16)), jnp.ones((16, 16)), jnp.ones((16, 256))


def loss(ws, wide, x):
    for w in ws:
        x = cg.stage(lambda w, x: jnp.tanh(x @ w))(w, x)
    x = cg.stage(lambda w, x: jnp.tanh(x @ w) @ w.T)(wide, x)
    return jnp.sum(x)


@pytest.mark.parametrize("policy", ["store_all", "recompute_all"])
def test_the_peak(policy):
    """The wide layer sets it, whatever is kept."""
    plan = cg.plan(loss, [W] * 4, WIDE, X, policy=policy, costs="estimate")
    peak = next(advice for advice in plan.advice if advice.kind == "peak")
    course = plan.timeline()
    moment = course.moments[course.peak_at]
    assert (peak.figures["action"], peak.figures["bytes"]) == (moment.action, moment.total)
    assert sum(peak.figures["by_kind"].values()) == moment.total
    assert peak.figures["by_kind"]["boundaries"] == moment.bytes["boundaries"]
    assert peak.figures["stage"] == 4
    assert f"of stage 4 ({course.moments[course.peak_at].place.brief})" in peak.text
    assert peak.figures["largest"][0].startswith("float32[64,256] of ")
    assert peak.figures["largest"][0] in peak.text
