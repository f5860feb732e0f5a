"""Results of one small model, one of each type, which the tests of pictures and pages share."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.validation import jax_grad_point

X = jnp.ones((64, 16))
WS = [0.1 * jnp.eye(16)] * 6


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


@pytest.fixture(scope="session")
def shown():
    return {
        "plan": cg.plan(loss, WS, X, budget="min"),
        "timeline": cg.timeline(loss, WS, X, budget="0.6x", observe=("xla", "ledger")),
        "frontier": cg.frontier(loss, WS, X).beside(jax_grad_point(loss, WS, X)),
        "validation": cg.validate(loss, WS, X, budget="0.6x", repeats=1, meters=()),
    }
