"""Schedules of the checkpoint-schedules package, and saved plans."""

from __future__ import annotations

import checkpoint_schedules as cs
import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.bench.random_chains import random_chain
from ckptgrad.planning import ChainCosts, simulate
from ckptgrad.planning.policies.revolve import extra_forwards
from tests.compare import assert_same

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
    with pytest.raises(cg.ScheduleError, match="no plan"):
        cg.load_plan('{"schedule": ["F1", "Z2"]}')
