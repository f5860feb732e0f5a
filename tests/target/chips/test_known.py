"""Published figures of chips."""

from __future__ import annotations

import pytest

from ckptgrad.target.chips.gpus import described_gpu, gpu_names
from ckptgrad.target.chips.known import known_chip
from ckptgrad.target.chips.tpus import TPUS


@pytest.mark.parametrize("name", gpu_names())
def test_a_described_gpu_is_known_by_its_model(name):
    gpu = described_gpu(name)
    assert known_chip(gpu.kind) == gpu
    assert gpu.memory > 70 << 30
    assert gpu.rates.read_rate > 1e12


@pytest.mark.parametrize("kind", TPUS)
def test_two_devices_share_a_chip(kind):
    one, half = known_chip(kind), known_chip(kind, 2)
    assert half.memory == one.memory // 2
    assert half.rates.product_rate == one.rates.product_rate / 2


def test_nothing_is_known_of_others():
    assert known_chip("TPU v99") is None
