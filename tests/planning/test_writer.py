"""The writer keeps its books as the ledger does, action by action or a sweep at once."""

from __future__ import annotations

import pytest

from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.planning import Backward, ChainCosts, Forward, Free
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.writer import ScheduleWriter


@pytest.mark.parametrize("held", [None, 2])
def test_a_sweep_is_what_its_actions_are(held):
    """Where a boundary on its way is held already, too."""
    costs = random_chain(7, 2, 3)
    one, many = ScheduleWriter(costs), ScheduleWriter(costs)
    for writer in (one, many):
        writer.replay([] if held is None else [Forward(i) for i in range(held)])
        writer.replay([] if held is None else [Free(i) for i in range(1, held)])
    for first, end in ((0, 5), (5, 7)):
        one.sweep(first, end)
        for stage in range(first, end):
            many.replay([Forward(stage), Free(stage)] if stage > first else [Forward(stage)])
    assert one.actions == many.actions
    assert (one.live, one.peak, one.peak_stage) == (many.live, many.peak, many.peak_stage)
    assert one.time == pytest.approx(many.time, rel=1e-12)


def test_figures_are_those_of_the_ledger_whenever_they_are_asked_for():
    costs, ledger = random_chain(3, 2, 1), Ledger(random_chain(3, 2, 1))
    writer = ScheduleWriter(costs)
    for action in (Forward(0), Forward(1, 1), Forward(2, 0), Backward(2), Free(1), Free(2)):
        writer.append(action)
        ledger.run([action])
        assert (writer.live, writer.peak, writer.peak_stage) == (ledger.live, ledger.peak, ledger.peak_stage)
        assert writer.time == pytest.approx(ledger.seconds)


def test_a_peak_beyond_the_budget_is_refused_with_its_stage():
    writer = ScheduleWriter(ChainCosts.uniform(2))
    writer.replay([Forward(0, 0), Forward(1, 0)])
    assert writer.fits(None)
    assert writer.fits(writer.peak)
    assert writer.finish("mine", writer.peak).policy == "mine"
    with pytest.raises(BudgetError) as refused:
        writer.finish("mine", writer.peak - 1)
    assert (refused.value.smallest, refused.value.stage) == (writer.peak, writer.peak_stage)


def test_what_is_no_action_is_refused():
    with pytest.raises(ScheduleError, match="not an action"):
        ScheduleWriter(ChainCosts.uniform(2)).replay([Forward(0), "F1"])
