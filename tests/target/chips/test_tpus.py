"""Published figures of TPUs."""

from __future__ import annotations

import pytest

from ckptgrad.target.chips.tpus import TPUS, Tpu
from ckptgrad.target.links import Links


def test_one_of_two_devices_has_half_of_a_chip():
    chip = Tpu(memory=100, products=8e12, bandwidth=6e9, multipliers=4 << 14, port=5e10)
    device = chip.device("Abacus", 2)
    assert (device.kind, device.memory, device.description) == ("Abacus", 50, "")
    rates = device.rates
    assert (rates.product_rate, rates.read_rate, rates.write_rate) == (4e12, 3e9, 3e9)
    assert rates.products(32, exact=True) == pytest.approx(4e12 / 6)
    assert device.links == Links(1e11)
    # A device does half of the work in the cycles of the whole chip.
    assert rates.clock == chip.clock == pytest.approx(8e12 / (2 * (4 << 14)))


def test_clocks():
    """Of v2, v3, v4 and v5e as published: 0.7, 0.94, 1.05 and 1.5 GHz."""
    clocks = [TPUS[f"TPU {name}"].clock / 1e9 for name in ("v2", "v3", "v4", "v5 lite")]
    assert clocks == pytest.approx([0.7, 0.94, 1.05, 1.5], rel=0.01)
