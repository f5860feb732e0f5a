"""A gradient that was run under a budget, with its plan and its timeline."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.notebook.calls import WrittenCall
from ckptgrad.notebook.profiled import profile
from ckptgrad.report import registry
from tests.support.compare import assert_same

X = jnp.linspace(0.1, 1.0, 8)


def loss(x, n, *, scale):
    return scale * jnp.sum(jnp.sin(x) ** 2) * n


@pytest.mark.slow
def test_value_gradient_plan_and_timeline():
    found = profile(WrittenCall(loss, (X, 3), {"scale": 2.0}), ("ledger",), argnums=(0, 1))
    value, (by_x, by_n) = jax.value_and_grad(loss, (0, 1), allow_int=True)(X, 3, scale=2.0)
    assert_same(found.value, value, scale=4)
    assert_same(found.gradient[0], by_x, scale=4)
    # Integers are differentiated as `allow_int` does.
    assert found.gradient[1].dtype == by_n.dtype
    assert found.timeline.peak_bytes == found.plan.peak_bytes
    assert [*found.timeline.readings] == ["ledger"]
    text = str(found)
    assert text.index("predicted peak") < text.index("live bytes")
    assert [*registry.figures(found)] == ["timeline"]
