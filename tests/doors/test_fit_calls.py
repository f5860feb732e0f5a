"""The calls inside a step: planned for one number of bytes, each at least within its smallest plan."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.chain.cutting import Ways
from ckptgrad.costs.source import program_costs
from ckptgrad.doors.fit_calls import FitCall, Planned, plan_step
from ckptgrad.request import Request
from tests.cases.steps import BOUNDARY, WS, X, loss

REQUEST = Request(budget="fit")


def call(depth):
    program = cg.plan(loss, WS[:depth], X).program
    return FitCall(((program, program_costs(program, "estimate")),), REQUEST)


SHALLOW, DEEP = call(2), call(4)


def test_all_calls_are_planned_within_all_bytes():
    limit = DEEP.plan(None).peak_bytes - 2 * BOUNDARY
    step = plan_step([SHALLOW, DEEP], 0, limit)
    assert step.parts[0].schedule == SHALLOW.plan(limit).schedule
    assert step.parts[1].schedule == DEEP.plan(limit).schedule
    assert max(plan.peak_bytes for plan in step.parts) == step.peak_bytes <= limit


def test_what_is_around_the_calls_is_left_to_it():
    limit = DEEP.plan(None).peak_bytes
    step = plan_step([DEEP], BOUNDARY, limit)
    assert step.parts[0].peak_bytes <= limit - BOUNDARY
    assert step.peak_bytes == step.parts[0].peak_bytes + BOUNDARY


def test_a_call_that_cannot_be_planned_within_them_gets_its_smallest_plan():
    with pytest.raises(cg.BudgetError) as refused:
        DEEP.plan(1)
    with pytest.raises(cg.BudgetError) as both:
        plan_step([SHALLOW, DEEP], 0, 1)
    assert both.value.smallest < refused.value.smallest
    step = plan_step([SHALLOW, DEEP], 0, both.value.smallest)
    assert step.parts[1].schedule == DEEP.plan(refused.value.smallest).schedule
    assert step.parts[0].peak_bytes == both.value.smallest


def test_a_step_that_changes_is_refused():
    plans = plan_step([SHALLOW], 0, None).parts
    with pytest.raises(cg.ScheduleError, match="0 planned calls instead of 1"):
        Planned("step", plans).check_all_used()
    with pytest.raises(cg.ScheduleError, match="stages in a planned call"):
        Planned("step", plans).plan_of(Ways([DEEP.cuts[0][0]]), REQUEST)
    planned = Planned("step", plans)
    assert planned.plan_of(Ways([SHALLOW.cuts[0][0]]), REQUEST).schedule == plans[0].schedule
    with pytest.raises(cg.ScheduleError, match="a planned call more than the 1"):
        planned.plan_of(Ways([SHALLOW.cuts[0][0]]), REQUEST)
