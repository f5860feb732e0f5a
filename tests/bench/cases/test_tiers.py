"""Tiers in the benchmark book: what the tables promise holds for each row."""

from __future__ import annotations

import jax
import pytest

from ckptgrad.bench.cases.tiers import _of_torch, tiers_beyond, tiers_schedules
from ckptgrad.bench.registry import Bench
from ckptgrad.example_models import tanh_chain


def test_ours_takes_no_more_than_h_revolve_overlapped_or_not():
    seconds = {}
    for found in tiers_schedules(Bench(quick=True)):
        seconds.setdefault(found.group, []).append(found.values["simulated_seconds"])
    assert seconds
    for synchronous, overlapped, ours in seconds.values():
        assert ours <= overlapped <= synchronous


@pytest.mark.slow
def test_torchs_way_to_send_has_the_same_gradient():
    pytest.importorskip("torch")
    loss, args = tanh_chain(layers=3, width=8, batch=16)
    rows = [*_of_torch("tanh layers", args, jax.grad(loss)(*args), rounds=1)]
    assert [found.run for found in rows] == ["torch, eager", "torch.autograd.graph.save_on_cpu"]
    assert all(found.values["difference"] < 1e-5 for found in rows)


@pytest.mark.slow
def test_the_chain_beyond_memory_keeps_its_budget_and_sends():
    (found,) = tiers_beyond(Bench(quick=True))
    assert found.values["certified_bytes"] <= found.values["budget_bytes"] < found.values["boundaries_bytes"]
    assert found.values["sent_boundaries"] > 0
