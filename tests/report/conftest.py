"""Results of one small model, one of each type, which the tests of pictures and pages share."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.validation import jax_grad_point
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(16, 64)


@pytest.fixture(scope="session")
def shown():
    return {
        "plan": cg.plan(tanh_loss, WS, X, budget="min"),
        "timeline": cg.timeline(tanh_loss, WS, X, budget="0.6x", observe=("xla", "ledger")),
        "frontier": cg.frontier(tanh_loss, WS, X).beside(jax_grad_point(tanh_loss, WS, X)),
        "validation": cg.validate(tanh_loss, WS, X, budget="0.6x", repeats=1, meters=()),
    }
