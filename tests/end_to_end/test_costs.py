"""`costs=`: plans by estimates, by the compiler, by the clock and by measured rates."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.target.attached import forget_measured_rates
from tests.cases.marked_layers import WS, X, loss


@pytest.mark.parametrize("costs", ["compile", "measure"])
def test_costs_by_xla_and_by_the_clock(costs):
    plan = cg.plan(loss, WS, X, budget="0.5x", costs=costs)
    estimated = cg.plan(loss, WS, X, budget="0.5x")
    assert plan.peak_bytes > 0
    transients = [[o.backward_transient for o in s.options] for s in plan.costs.stages]
    assert transients != [[o.backward_transient for o in s.options] for s in estimated.costs.stages]
    times = [s.forward_time for s in plan.costs.stages]
    assert (times == [s.forward_time for s in estimated.costs.stages]) == (costs == "compile")
    assert all(t > 0 for t in times)


def test_unknown_costs_are_refused():
    with pytest.raises(cg.OptionError, match="guess"):
        cg.grad(loss, costs="guess")


def test_calibration_is_used():
    before = cg.plan(loss, WS, X).seconds
    try:
        rates = cg.calibrate()
        assert rates.product_rate > 0
        assert cg.plan(loss, WS, X).seconds != before
    finally:
        forget_measured_rates()
    assert cg.plan(loss, WS, X).seconds == before
