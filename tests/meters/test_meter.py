"""The registry of meters."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.meters.meter import meters

WIDTH, BATCH = 32, 64
X = jnp.ones((BATCH, WIDTH))
WS = [0.1 * jnp.eye(WIDTH)] * 6


def tanh_loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_an_unknown_meter_is_refused_with_those_there_are():
    with pytest.raises(cg.OptionError, match="no meter 'thermometer'; there are device, ledger, resident, xla, 'all' and"):
        cg.timeline(tanh_loss, WS, X, observe="thermometer")


def test_each_meter_says_what_it_sees_and_what_it_cannot():
    assert sorted(meters()) == ["device", "ledger", "resident", "xla"]
    for meter in meters().values():
        assert meter.sees
        assert meter.cannot_see
        assert meter.label
