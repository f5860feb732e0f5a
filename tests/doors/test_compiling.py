"""What a budget that is too small is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(16, 64, layers=3)


def scanned_loss(ws, x):
    return jnp.mean(jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0] ** 2)


@pytest.mark.parametrize(
    ("loss", "ws"),
    [
        pytest.param(tanh_loss, WS, id="stages", marks=pytest.mark.slow),
        pytest.param(scanned_loss, jnp.stack(WS), id="a loop"),
    ],
)
def test_the_bytes_that_a_refusal_names_are_enough(loss, ws):
    """They are certified, of the plans by both sources of costs, so no second refusal names others."""
    with pytest.raises(cg.BudgetError) as refused:
        cg.value_and_grad(loss, budget=100).compile(ws, X)
    smallest = refused.value.smallest
    assert refused.value.budget == 100
    assert cg.value_and_grad(loss, budget=smallest).compile(ws, X).peak_bytes <= smallest
