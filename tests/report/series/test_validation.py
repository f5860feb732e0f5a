"""A validation as bars."""

from __future__ import annotations

from ckptgrad.report.series.validation import validation_series
from tests.cases.results import KIB, VALIDATION


def test_bars_are_the_peaks_and_times_of_what_is_feasible():
    series = validation_series(VALIDATION)
    assert series.rows == ["jax.grad", "optimal"]
    assert series.peaks == {"XLA's buffer assignment": [40 * KIB, 20 * KIB]}
    assert series.ratios == [1.0, 1.2]
    assert series.styles.keys() == series.peaks.keys()
