"""Rates of products by their type."""

from __future__ import annotations

import pytest

from ckptgrad.target.rates import Rates

ALL = Rates(100.0, 10.0, 1.0, 5.0, 5.0, half_rate=200.0, exact_rate=30.0, double_rate=50.0)


@pytest.mark.parametrize(
    ("bits", "exact", "rate"),
    [(32, False, 100), (32, True, 30), (16, False, 200), (16, True, 200), (8, False, 200), (64, True, 50)],
)
def test_each_type_has_its_rate(bits, exact, rate):
    assert ALL.products(bits, exact=exact) == rate


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_not_known_of_a_type_is_as_for_float32(bits, exact):
    assert Rates(100.0, 10.0, 1.0, 5.0, 5.0).products(bits, exact=exact) == 100
