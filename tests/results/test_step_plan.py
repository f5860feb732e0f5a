"""A step's plans counted together."""

from __future__ import annotations

from dataclasses import replace

import ckptgrad as cg
from ckptgrad.results.step_plan import StepPlan
from tests.cases.steps import WS, X, loss

SMALL, LARGE = cg.plan(loss, WS[:2], X), cg.plan(loss, WS, X)


def test_calls_run_one_after_another():
    step = StepPlan((SMALL, LARGE), 100)
    assert step.peak_bytes == LARGE.peak_bytes + 100
    assert step.seconds == SMALL.seconds + LARGE.seconds
    assert step.least_seconds == SMALL.least_seconds + LARGE.least_seconds


def test_it_is_fenced_if_all_are():
    assert StepPlan((SMALL, LARGE)).fenced
    assert not StepPlan((SMALL, replace(LARGE, fenced=False))).fenced
