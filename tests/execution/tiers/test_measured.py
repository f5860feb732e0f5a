"""Rates of tiers."""

from __future__ import annotations

import jax
import pytest

from ckptgrad.execution.tiers.measured import known_rates, measured_rates
from ckptgrad.execution.tiers.seen import seen
from ckptgrad.execution.tiers.tier import read_tier


def test_rates_are_measured_once_and_leave_nothing(tmp_path):
    tier, device = read_tier(f"disk:{tmp_path}:1GiB"), jax.devices("cpu")[0]
    rates = measured_rates(tier, device)
    assert min(rates.put, rates.get, rates.latency) > 0
    assert measured_rates(tier, device) is rates
    assert list(tmp_path.iterdir()) == []


def test_what_was_seen_counts_more_than_what_was_measured(tmp_path):
    tier, device = read_tier(f"disk:{tmp_path}:2GiB"), jax.devices("cpu")[0]
    assert known_rates(tier, device) is measured_rates(tier, device)
    assert known_rates(tier, device).source == "measured at opening"
    seen(tier, device).put.extend([(2**20, 2.0)] * 4)
    seen(tier, device).get.extend([(2**20, 4.0)] * 4)
    assert known_rates(tier, device).put_seconds(2**20) == pytest.approx(2.0, rel=0.01)
    assert known_rates(tier, device).source == "seen in 8 transfers"
