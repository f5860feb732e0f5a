"""The picture of a frontier."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.planning.frontier import Point
from ckptgrad.report.plots.frontier import plot_frontier
from tests.cases.results import FRONTIER


def test_the_frontier_has_others_as_points(shown):
    labels = [text.get_text() for text in shown["frontier"].plot().axes[0].get_legend().get_texts()]
    for name in ("optimal", "jax.grad", "jax.checkpoint, dots_saveable", "sqrt", "revolve"):
        assert name in labels


def test_the_frontier_says_whose_peak_the_compiler_gave_if_there_is_one(shown):
    beside = shown["frontier"]
    alone = replace(beside, others=())
    axis = "peak beyond the arguments, MiB (predicted"
    assert [f.plot().axes[0].get_xlabel() for f in (beside, alone)] == [f"{axis}; jax.grad: XLA)", f"{axis})"]


def test_times_are_relative_to_the_fastest_plan():
    lines = {line.get_label(): line for line in plot_frontier(FRONTIER).axes[0].lines}
    assert [x * 1024 for x in lines["optimal"].get_xdata()] == [100, 200, 400]
    assert [*lines["optimal"].get_ydata()] == [3, 2, 1]
    assert [*lines["sqrt"].get_ydata()] == [2.5]
    assert [*lines["revolve"].get_ydata()] == [9]


def test_policies_of_one_name_share_a_mark():
    others = tuple(Point(1000 * k, 4.0, f"every {k}") for k in (2, 3))
    lines = {line.get_label(): line for line in plot_frontier(replace(FRONTIER, others=others)).axes[0].lines}
    assert [*lines["every k"].get_xdata()] == [2000 / 2**20, 3000 / 2**20]
