"""Schedules of the checkpoint-schedules package, and saved plans."""

from __future__ import annotations

import json

import checkpoint_schedules as cs
import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.binomial import extra_forwards
from ckptgrad.planning import ChainCosts
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate
from tests.support.compare import assert_same

N = 9
SCHEDULES = {
    "Revolve": lambda: cs.Revolve(N, 3),
    "multistage": lambda: cs.MultistageCheckpointSchedule(N, 2, 1),
    "H-Revolve": lambda: cs.HRevolve(N, 2, 1),
    "mixed": lambda: cs.MixedCheckpointSchedule(N, 3),
    "two-level": lambda: cs.TwoLevelCheckpointSchedule(4, binomial_snapshots=2),
    "disk Revolve": lambda: cs.DiskRevolve(N, 2),
    "periodic disk Revolve": lambda: cs.PeriodicDiskRevolve(N, 2),
    "memory": cs.SingleMemoryStorageSchedule,
    "disk": cs.SingleDiskStorageSchedule,
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("seed", range(3))
def test_schedules_of_the_package_are_valid(make, seed):
    """On chains whose backwards read inputs, outputs or neither; a policy can be asked twice."""
    policy = cg.from_checkpoint_schedules(make())
    costs = random_chain(N, 2, seed)
    assert simulate(policy(costs, None), costs) == simulate(policy(costs, 10**9), costs)


def test_counts_are_those_of_the_package():
    costs = ChainCosts.uniform(N)
    schedule = cg.from_checkpoint_schedules(cs.MultistageCheckpointSchedule(N, 3, 0))(costs, None)
    assert schedule.forwards == N + extra_forwards(N, 3)
    schedule = cg.from_checkpoint_schedules(cs.MixedCheckpointSchedule(N, 3))(costs, None)
    assert schedule.forwards == cs.mixed.optimal_steps_mixed(N, 3)
    schedule = cg.from_checkpoint_schedules(cs.SingleMemoryStorageSchedule())(costs, None)
    assert schedule.recomputations == 0


def test_wrong_lengths_and_small_budgets_are_refused():
    costs = ChainCosts.uniform(4)
    with pytest.raises(cg.ScheduleError, match="9 steps, but the chain has 4"):
        cg.from_checkpoint_schedules(cs.Revolve(N, 3))(costs, None)
    with pytest.raises(cg.BudgetError):
        cg.from_checkpoint_schedules(cs.Revolve(4, 3))(costs, 2)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


WS, X = [jnp.eye(8) * 0.3 for _ in range(6)], jnp.linspace(-1, 1, 32).reshape(4, 8)


def test_a_schedule_of_the_package_runs():
    stages = len(cg.plan(loss, WS, X).costs)
    gradient = cg.grad(loss, policy=cg.from_checkpoint_schedules(cs.HRevolve(stages, 1, 1)))
    assert gradient.plan(WS, X).simulation.recomputations > 0
    assert_same(gradient(WS, X), jax.grad(loss)(WS, X), scale=8)


@pytest.mark.parametrize("policy", ["optimal", "revolve", "store_all"])
def test_a_plan_survives_json(policy, tmp_path):
    plan = cg.plan(loss, WS, X, budget="min" if policy == "optimal" else None, policy=policy)
    file = tmp_path / "plan.json"
    file.write_text(plan.to_json())
    for source in (plan.to_json(), file, str(file)):
        again = cg.plan(loss, WS, X, policy=cg.load_plan(source))
        assert again.schedule == plan.schedule
        assert again.peak_bytes == plan.peak_bytes


def test_a_saved_plan_is_not_run_on_another_function():
    saved = cg.load_plan(cg.plan(loss, WS, X).to_json())
    with pytest.raises(cg.ScheduleError, match=r"stages|options"):
        cg.plan(loss, WS[:3], X, policy=saved)
    with pytest.raises(cg.BudgetError):
        cg.plan(loss, WS, X, budget=100, policy=saved)
    with pytest.raises(cg.ScheduleError, match="not a plan"):
        cg.load_plan('{"schedule": ["F1", "Z2"]}')


# A good plan of two stages, and what is done to it.
SAVED = {"format": 1, "policy": "p", "schedule": ["F0:0", "F1:0", "B1", "B0", "-1", "-0"], "options": [["all"], ["all"]]}


def steps(*actions, **others):
    return json.dumps({**SAVED, "schedule": [*actions], **others})


BROKEN = {
    "empty": "",
    "blank": "  \n",
    "no JSON": "{schedule",
    "a list": "[1, 2]",
    "a text": '"F0"',
    "cut off": json.dumps(SAVED)[:-5],
    "nested deeply": "[" * 100_000,
    "nested deeply inside": '{"policy": ' + "[" * 100_000,
    "another format": json.dumps({**SAVED, "format": 2}),
    "format is true": json.dumps({**SAVED, "format": True}),
    "policy is a list": json.dumps({**SAVED, "policy": ["p"]}),
    "policy is missing": json.dumps({k: v for k, v in SAVED.items() if k != "policy"}),
    "schedule is a text": json.dumps({**SAVED, "schedule": "F0"}),
    "schedule is an object": json.dumps({**SAVED, "schedule": {"F0": 1}}),
    "schedule of numbers": json.dumps({**SAVED, "schedule": [0, 1]}),
    "options is a number": json.dumps({**SAVED, "options": 2}),
    "options of texts": json.dumps({**SAVED, "options": ["all", "all"]}),
    "no options": json.dumps({**SAVED, "options": [[], []]}),
    "no stages": json.dumps({**SAVED, "schedule": [], "options": []}),
    "no actions": steps(),
    "unknown action": steps("F0:0", "G1"),
    "a stage that is not there": steps("F0:0", "F1:0", "F2:0"),
    "an endless number": steps(f"F{'9' * 5000}"),
    "an option that is not there": steps("F0:1"),
    "a backward first": steps("B1"),
    "a free of what is not held": steps("-1"),
    "a free beyond the end": steps("-7"),
    "a backward twice": steps("F0:0", "F1:0", "B1", "B1"),
    "not to the end": steps("F0:0", "F1:0", "B1"),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_plan_is_refused_when_it_is_loaded(text, tmp_path):
    cg.load_plan(json.dumps(SAVED))
    with pytest.raises(cg.ScheduleError):
        cg.load_plan(text)
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(cg.ScheduleError):
        cg.load_plan(file)


@pytest.mark.parametrize(
    "content", [b"\x00\xff\xfe binary", json.dumps(SAVED).encode("utf-16"), json.dumps(SAVED).encode("utf-32")]
)
def test_what_is_no_text_is_refused(content, tmp_path):
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(cg.ScheduleError):
        cg.load_plan(file)


@pytest.mark.parametrize("source", [None, 3, b"{}", ["F0"], SAVED, "no such file", "a\0b", "x" * 5000])
def test_what_is_no_file_is_refused(source, tmp_path):
    for wrong in (source, tmp_path):
        with pytest.raises(cg.ScheduleError):
            cg.load_plan(wrong)


def test_a_plan_without_a_format_is_read():
    """As plans were saved before the format had a number."""
    plan = cg.plan(loss, WS, X)
    data = plan.to_dict()
    assert data.pop("format") == 1
    assert cg.plan(loss, WS, X, policy=cg.load_plan(json.dumps(data))).schedule == plan.schedule


def test_reads_are_judged_before_a_saved_plan_is_replayed():
    """That a backward reads a boundary is known from the function alone."""
    plan = cg.plan(loss, WS, X, policy="store_all")
    data = plan.to_dict()
    reading = next(i for i, k in plan.schedule.kept.items() if i and plan.costs.stages[i].options[k].reads_input)
    data["schedule"].remove(f"-{reading}")
    data["schedule"].insert(data["schedule"].index(f"B{len(plan.costs) - 1}"), f"-{reading}")
    with pytest.raises(cg.ScheduleError, match=f"reads the input, boundary {reading}"):
        cg.plan(loss, WS, X, policy=cg.load_plan(json.dumps(data)))
