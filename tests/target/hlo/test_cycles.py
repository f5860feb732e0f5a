"""Cycles of a program: those of each fusion, loop bodies as often as they run."""

from __future__ import annotations

import pytest

from ckptgrad.target.chips.tpus import TPUS
from ckptgrad.target.hlo.cycles import cycle_seconds
from ckptgrad.target.hlo.text import read_module
from tests.target.hlo.programs import TPU

RATES = TPUS["TPU v5 lite"].device("TPU v5 lite", 1).rates


@pytest.mark.parametrize(("without", "cycles"), [("", 12 * 1000 + 70), ("made", 12 * 1000)])
def test_cycles(without, cycles):
    """What is inside a fusion is part of it."""
    assert cycle_seconds(read_module(TPU), RATES, without=without) == pytest.approx(cycles / RATES.clock)
