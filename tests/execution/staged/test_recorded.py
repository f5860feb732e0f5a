"""A schedule as steps: what is read is there, what is dropped is read no more."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.staged.recorded import Transfer, record
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
        assert {step.operands[k] for k in step.work.free} <= {*step.dropped}
        alive -= {*step.dropped}
    assert alive == {*recording.gradients, *recording.outputs}
    assert recording.value_bytes.keys() == ever


def test_what_is_sent_is_dropped_from_the_device_and_another_value_when_it_is_back():
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=3))
    texts = ["F0:0", "F1:0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"]
    steps = record(plan.program, cg.Schedule.parse(texts, "sent")).steps
    moves = [step for step in steps if isinstance(step.work, Transfer)]
    put, get, drop = moves
    assert [step.work.way for step in moves] == ["put", "get", "drop"]
    assert put.operands == put.dropped == (put.work.key,)
    assert get.work.key == drop.work.key == put.work.key
    assert [step for step in steps if get.results[0] in step.operands]
    assert not [step for step in steps[steps.index(put) + 1 :] if put.operands[0] in step.operands]


def test_what_is_away_is_not_read():
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=3))
    with pytest.raises(ScheduleError, match="fetched before"):
        record(plan.program, cg.Schedule.parse(["F0:0", ">1", "F1:0"], "wrong"))


def test_steps_are_in_the_order_of_the_actions():
    plan = cg.plan(tanh_loss, *tanh_arguments(16, 64, layers=6), policy="sqrt")
    actions = [step.action for step in record(plan.program, plan.schedule).steps]
    assert actions == sorted(actions)
    assert {*actions} <= {*range(len(plan.schedule) + 1)}
