"""Rates of tiers."""

from __future__ import annotations

import jax

from ckptgrad.execution.tiers.measured import measured_rates
from ckptgrad.execution.tiers.tier import read_tier


def test_rates_are_measured_once_and_leave_nothing(tmp_path):
    tier, device = read_tier(f"disk:{tmp_path}:1GiB"), jax.devices("cpu")[0]
    rates = measured_rates(tier, device)
    assert min(rates.put, rates.get, rates.latency) > 0
    assert measured_rates(tier, device) is rates
    assert list(tmp_path.iterdir()) == []
