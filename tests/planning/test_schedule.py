"""Schedules as text and as numbers; whoever follows one refuses what is not an action."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.interpreter import Execution
from ckptgrad.execution.observed import run_observed
from ckptgrad.planning import Backward, Fetch, Forward, Free, Offload, Schedule
from ckptgrad.planning.ledger import Ledger, follow
from ckptgrad.planning.writer import ScheduleWriter
from ckptgrad.report.schedule import spacetime


def test_a_schedule_reads_as_text():
    schedule = Schedule((Forward(0), Forward(1, 2, False), Backward(1), Free(0)), "mine")
    assert str(schedule) == "mine: F0 F1:2~ B1 -0"
    assert len(schedule) == 4


def test_a_boundary_is_sent_once_as_long_as_a_tier_has_it():
    assert Schedule.parse(["F0", ">1", "<1", ">1", "-1", "F0", ">1"], "mine").sent == 2
    assert Schedule.parse(["F0", "B0"], "mine").sent == 0


def test_text_is_read_again():
    texts = ["F0", "F1:2~", "B1", "F0:0", "B0", "-0"]
    schedule = Schedule.parse(texts, "mine")
    assert [str(action) for action in schedule] == texts
    assert (schedule.stages, schedule.forwards, schedule.recomputations, schedule.kept) == (2, 3, 1, {1: 2, 0: 0})


def test_transfers_are_read_again():
    texts = [">3", "<3", ">3:1", "<12:2"]
    schedule = Schedule.parse(texts, "mine")
    assert [str(action) for action in schedule] == texts
    assert schedule.actions == (Offload(3), Fetch(3), Offload(3, 1), Fetch(12, 2))


@pytest.mark.parametrize("text", [">", "<-1", ">3:", "", "F", "F-1", "B1:0", "B1~", "-1~", "F1:", "G1", "F1 F2"])
def test_other_texts_are_refused(text):
    with pytest.raises(ScheduleError):
        Schedule.parse(["F0", text], "mine")


def sines(x):
    return jnp.sum(jnp.sin(x))


PLAN = cg.plan(sines, jnp.ones(3))


STRANGE = (*PLAN.schedule, "F0")


FOLLOWERS = {
    "writer": lambda: ScheduleWriter(PLAN.costs).replay(STRANGE),
    "ledger": lambda: Ledger(PLAN.costs).run(STRANGE),
    "moments": lambda: list(follow(PLAN.costs, STRANGE)),
    "stage by stage": lambda: run_observed(PLAN.program, [jnp.ones(3)], Schedule(STRANGE, "test"), lambda _: None),
    "execution": lambda: Execution(PLAN.program, [jnp.ones(3)]).run(["F0"]),
    "chart": lambda: spacetime(Schedule(STRANGE, "test"), PLAN.costs),
    "plan": lambda: cg.plan(sines, jnp.ones(3), policy=Schedule(STRANGE, "test")),
    "gradient": lambda: cg.grad(sines, policy=Schedule(STRANGE, "test"))(jnp.ones(3)),
    "what a policy returns": lambda: cg.plan(sines, jnp.ones(3), policy=lambda costs, budget: STRANGE),
}


@pytest.mark.parametrize("follow", FOLLOWERS.values(), ids=FOLLOWERS)
def test_whoever_follows_a_schedule_refuses_an_unknown_action(follow):
    """Not the referee alone: what it has not seen is not left out in silence."""
    with pytest.raises(ScheduleError):
        follow()
