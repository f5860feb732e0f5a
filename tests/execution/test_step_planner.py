"""Who plans is known inside a step only, also to what is jitted there."""

from __future__ import annotations

import jax
import pytest

import ckptgrad as cg
from ckptgrad.execution.step_planner import planned_by, step_planner


def test_the_innermost_step_plans():
    outer, inner = object(), object()
    with planned_by(outer):
        with planned_by(inner):
            assert step_planner() is inner
        assert step_planner() is outer
    with pytest.raises(cg.OptionError, match="budget='fit'"):
        step_planner()


def test_what_is_jitted_is_traced_for_each_step():
    seen = []
    traced = jax.jit(lambda x: seen.append(step_planner()) or x)
    planners = [object(), object()]
    for planner in planners:
        with planned_by(planner):
            traced(1.0)
            traced(2.0)
    assert seen == planners
