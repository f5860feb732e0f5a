"""Broken axes."""

from __future__ import annotations

import pytest

from ckptgrad.report.plots.broken import BEYOND, break_axis
from ckptgrad.report.plots.style import new_figure, to_png


def shares(ax, values):
    """Where values stand along the horizontal axis."""
    points = ax.transAxes.inverted().transform(ax.transData.transform([(v, 0.5) for v in values]))
    return [float(x) for x, _ in points]


def test_what_is_far_stands_behind_the_break():
    figure, (ax,) = new_figure()
    ax.plot([1, 2, 100], [1, 0.5, 0.2], "o")
    break_axis(ax, "x", 0, 2, [100])
    assert to_png(figure)
    first, last, far = shares(ax, [1, 2, 100])
    assert last == pytest.approx(1 - BEYOND)
    assert first == pytest.approx((1 - BEYOND) / 2)
    assert 1 - BEYOND < far < 1
    assert ax.get_xticklabels()[-1].get_text() == "100"
    assert len(ax.lines) == 3  # two strokes


def test_without_anything_far_the_axis_is_whole():
    _, (ax,) = new_figure()
    break_axis(ax, "y", 0, 2, [])
    assert ax.get_ylim() == (0, 2)
    assert ax.lines[:] == []
    break_axis(ax, "y", 0, 2, [9])
    assert ax.get_yscale() == "function"
