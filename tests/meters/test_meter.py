"""The registry of meters."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.meters.meter import meters
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(32, 64)


def test_an_unknown_meter_is_refused_with_those_there_are():
    with pytest.raises(cg.OptionError, match="no meter 'thermometer'; there are device, ledger, resident, xla, 'all' and"):
        cg.timeline(tanh_loss, WS, X, observe="thermometer")


def test_each_meter_says_what_it_sees_and_what_it_cannot():
    assert sorted(meters()) == ["device", "ledger", "resident", "xla"]
    for meter in meters().values():
        assert meter.sees
        assert meter.cannot_see
        assert meter.label
