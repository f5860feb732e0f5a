"""The picture of which primitives are differentiated."""

from __future__ import annotations

from ckptgrad.report.plots.coverage import plot_coverage
from tests.cases.results import COVERAGE


def test_a_bar_for_each_status_the_most_frequent_above():
    (ax,) = plot_coverage(COVERAGE).axes
    assert [bar.get_width() for bar in ax.patches] == [1, 1, 2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["missing", "zero", "differentiated"]
    assert ax.get_xlabel() == "primitives"
