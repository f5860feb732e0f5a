"""Rates that are measured once, and used from then on."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import pytest

from ckptgrad.target import calibrate as calibration
from ckptgrad.target.attached import attached, forget_measured_rates
from ckptgrad.target.rates import Rates

MEASURED = Rates(4e11, 3e10, 2e9, 1e9, 2e10, 1e-6)


@pytest.fixture
def measurements(monkeypatch, tmp_path):
    """How often rates were measured."""
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path / "kept"))
    count = []

    def measure():
        count.append(1)
        return MEASURED

    monkeypatch.setattr(calibration, "measure_rates", measure)
    yield count
    forget_measured_rates()


def test_measured_rates_are_used_and_remembered(measurements):
    before = attached().rates
    rates = calibration.calibrate()
    assert attached().rates == rates
    assert (rates.product_rate, rates.write_rate, rates.launch) == (4e11, 1e9, 1e-6)
    # What is not measured stays as it was.
    assert (rates.cache, rates.clock) == (before.cache, before.clock)
    assert calibration.calibrate() == rates
    assert len(measurements) == 1


def test_rates_of_other_precisions_go_with_that_of_products(measurements, monkeypatch):
    known = replace(attached(), rates=replace(attached().rates, product_rate=1e11, half_rate=2e11, double_rate=None))
    monkeypatch.setattr(calibration, "attached", lambda: known)
    rates = calibration.calibrate()
    assert (rates.half_rate, rates.double_rate) == (8e11, None)


def test_the_fastest_of_some_runs_counts(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(clock))
    runs = []
    assert calibration.best_seconds(lambda: runs.append(1) or jnp.ones(()), 3) == 2.0
    assert len(runs) == 4
