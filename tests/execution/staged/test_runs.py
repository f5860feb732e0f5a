"""Runs of steps as one program: the same gradient in fewer programs, with no more bytes at any moment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.execution.staged import runs
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.compare import assert_same
from tests.support.rows import quick_rows

WS, X = tanh_arguments(16, 64, layers=12)


def dropout(ws, x):
    """Random numbers, a cheap part that is made again, and values that several layers read."""
    key, first = jax.random.key(0), x
    for w in ws:
        key, own = jax.random.split(key)
        kept = jax.random.bernoulli(own, 0.9, x.shape)
        x = x + jnp.where(kept, jax.nn.gelu(x @ w), 0.0) * jnp.cos(first)
    return jnp.mean(x**2)


def compiled(loss, monkeypatch, largest_kept, **options):
    monkeypatch.setattr(runs, "LARGEST_KEPT", largest_kept)
    return cg.value_and_grad(loss, argnums=(0, 1), runtime="staged", **options).compile(WS, X)


@pytest.mark.parametrize(
    ("loss", "options"),
    quick_rows(
        [
            (tanh_loss, {}),
            (tanh_loss, {"budget": "min"}),
            (dropout, {}),
            (dropout, {"policy": "recompute_all"}),
            (dropout, {"policy": "sqrt"}),
            (dropout, {"budget": "0.6x"}),
        ],
        (dropout, {"policy": "sqrt"}),
    ),
)
def test_runs_give_the_same_gradient_within_the_same_bytes(loss, options, monkeypatch):
    apart = compiled(loss, monkeypatch, 1 << 40, **options)
    together = compiled(loss, monkeypatch, 0, **options)
    steps, joined = apart.executable.account, together.executable.account
    assert len(joined) < len(steps)
    assert max(m.total for m in joined) <= max(m.total for m in steps)
    assert together.executable.peak_bytes <= apart.peak_bytes
    assert_same(together(WS, X), apart(WS, X))
    assert_same(together(WS, X), jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(WS, X), scale=10)


def test_few_programs_stand_for_most_steps(monkeypatch):
    compiled_for = set()
    found = runs.ready

    def counted(orders, target):
        orders = [*orders]
        compiled_for.update(order for order in orders if isinstance(order.work, runs.RunWork))
        return found(orders, target)

    monkeypatch.setattr(runs, "ready", counted)
    apart, together = (compiled(tanh_loss, monkeypatch, size, policy="recompute_all") for size in (1 << 40, 0))
    assert 1 <= len(compiled_for) <= 4
    assert len(together.executable.account) < 0.6 * len(apart.executable.account)


def test_runs_end_at_transfers(monkeypatch, tmp_path):
    options = {"budget": "min", "tiers": [f"disk:{tmp_path}:1GiB"]}
    apart, together = (compiled(tanh_loss, monkeypatch, size, **options) for size in (1 << 40, 0))
    assert together.executable.peak_bytes <= apart.executable.peak_bytes
    assert_same(together(WS, X), apart(WS, X))
    assert not [*tmp_path.iterdir()]


def test_a_call_runs_in_runs_as_well(monkeypatch):
    ordered = []
    found = runs.ready
    monkeypatch.setattr(runs, "ready", lambda orders, target: ordered.extend(orders) or found(orders, target))
    monkeypatch.setattr(runs, "LARGEST_KEPT", 0)
    assert_same(
        cg.value_and_grad(tanh_loss, runtime="staged")(WS, X), jax.jit(jax.value_and_grad(tanh_loss))(WS, X), scale=10
    )
    assert any(isinstance(order.work, runs.RunWork) for order in ordered)
