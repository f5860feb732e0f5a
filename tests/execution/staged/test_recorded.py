"""A schedule as steps: what is read is there, what is dropped is read no more."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.execution.staged.recorded import record
from tests.cases.tanh import tanh_arguments, tanh_loss


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "sqrt", "revolve"])
def test_each_value_is_made_once_read_while_it_is_there_and_dropped_once(policy):
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=6), policy=policy)
    recording = record(plan.program, plan.schedule)
    given = {*range(recording.arguments), *recording.constants}
    alive, ever = set(), set()
    for step in recording.steps:
        assert {*step.operands} <= alive | given
        assert not {*step.results} & (ever | given)
        ever |= {*step.results}
        alive |= {*step.results}
        assert {*step.dropped} <= alive
        assert {step.operands[k] for k in step.order.donated} <= {*step.dropped}
        alive -= {*step.dropped}
    assert alive == {*recording.gradients, *recording.outputs}
    assert recording.value_bytes.keys() == ever


def test_steps_are_in_the_order_of_the_actions():
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=6), policy="sqrt")
    actions = [step.action for step in record(plan.program, plan.schedule).steps]
    assert actions == sorted(actions)
    assert {*actions} <= {*range(len(plan.schedule) + 1)}
