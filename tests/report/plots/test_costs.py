"""The picture of the costs of stages."""

from __future__ import annotations

import pytest

from ckptgrad.report.plots.costs import plot_costs


def heights(ax):
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}


def test_bars_are_bytes_and_milliseconds_of_each_stage(shown):
    plan = shown["plan"]
    above, below = (heights(ax) for ax in plot_costs(plan).axes)
    assert [h * 2**20 for h in above["boundaries"]] == [s.boundary_bytes for s in plan.costs.stages]
    kept = plan.schedule.kept
    residuals = [s.options[kept[i]].residual_bytes for i, s in enumerate(plan.costs.stages)]
    assert [h * 2**20 for h in above["residuals"]] == residuals
    total = sum(sum(values) for values in below.values())
    assert total / 1e3 == pytest.approx(plan.seconds)
    assert sum(below["repeated forward"]) > 0
