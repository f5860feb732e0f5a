"""What each stage costs."""

from __future__ import annotations

import pytest

from ckptgrad.report.series.costs import cost_series


def test_seconds_are_those_of_the_plan_and_bytes_those_that_it_keeps(shown):
    plan = shown["plan"]
    series = cost_series(plan)
    assert sum(map(sum, series.seconds.values())) == pytest.approx(plan.seconds)
    assert series.bytes["boundaries"] == [s.boundary_bytes for s in plan.costs.stages]
    assert len({len(row) for row in (*series.bytes.values(), *series.seconds.values())}) == 1
