"""The device's own counters, where it has some."""

from __future__ import annotations

import jax

import ckptgrad as cg
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(32, 64)


def test_a_cpu_has_no_counters_and_says_so():
    reading = cg.timeline(tanh_loss, WS, X, observe="device").readings["device"]
    if jax.default_backend() == "cpu":
        assert reading.bytes is None
        assert "no memory counters" in reading.reason
