"""The picture of a validation."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report.plots.validation import plot_validation
from tests.cases.results import VALIDATION


def test_peaks_by_meter_and_times_of_what_is_feasible():
    above, below = plot_validation(VALIDATION).axes
    (bars,) = above.containers
    assert [bar.get_height() * 1024 for bar in bars] == [40, 20]
    assert [bar.get_height() for bar in below.patches] == [1.0, 1.2]
    assert [label.get_text() for label in below.get_xticklabels()] == ["jax.grad", "optimal"]
    assert [line.get_ydata()[0] * 1024 for line in above.lines] == [24]


def test_without_a_budget_there_is_no_line():
    above, _ = plot_validation(replace(VALIDATION, budget=None)).axes
    assert [*above.lines] == []
