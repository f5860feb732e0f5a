"""Tiers in the benchmark book: what the tables promise holds for each row."""

from __future__ import annotations

import pytest

from ckptgrad.bench.cases.tiers import tiers_beyond, tiers_schedules
from ckptgrad.bench.registry import Bench


def test_ours_takes_no_more_than_h_revolve_overlapped_or_not():
    seconds = {}
    for found in tiers_schedules(Bench(quick=True)):
        seconds.setdefault(found.group, []).append(found.values["simulated_seconds"])
    assert seconds
    for synchronous, overlapped, ours in seconds.values():
        assert ours <= overlapped <= synchronous


@pytest.mark.slow
def test_the_chain_beyond_memory_keeps_its_budget_and_sends():
    (found,) = tiers_beyond(Bench(quick=True))
    assert found.values["certified_bytes"] <= found.values["budget_bytes"] < found.values["boundaries_bytes"]
    assert found.values["sent_boundaries"] > 0
