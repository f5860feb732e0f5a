"""A program whose stages are whole blocks, and where these begin."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.chain.blocks import block_cuts
from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.program import build_program
from ckptgrad.costs.blocks import block_program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.planner import make_plan
from ckptgrad.planning import minimum_peak
from ckptgrad.planning.budget import everything_peak
from ckptgrad.request import Request
from tests.support.compare import assert_same

F32 = jnp.float32
WS = [(jnp.full((16, 64), 0.01, F32), jnp.full((64, 16), 0.02, F32), jnp.full((16, 16), 0.03, F32))] * 4
X = jnp.linspace(-1, 1, 32 * 16).reshape(32, 16)


def block(w, x):
    up, down, mix = w
    x = x + jnp.tanh(x @ up) @ down
    return x + jax.nn.softmax(x @ mix)


def loss(ws, x, block=block):
    for w in ws:
        x = block(w, x)
    return (x**2).sum()


def program_of(loss, target):
    """The program of a gradient with regard to the parameters, cut as finely as it is by default."""
    return cg.plan(loss, WS, X, target=target).program


def block_program_of(loss, target):
    program = program_of(loss, target)
    return block_program(program.graph, program.wrt, program.seeds, target)


def test_blocks_begin_where_the_smallest_plan_takes_fewest_bytes():
    target = cg.target("cpu")
    program = program_of(loss, target)
    chosen = block_program_of(loss, target)
    assert len(chosen.stages) < len(program.stages)
    offered = [
        build_program(program.graph, program.wrt, program.seeds, target, cuts)
        for cuts in block_cuts(program.graph, target, find_cuts(program.graph, target))
    ]
    assert len(offered) > 1
    least = [minimum_peak(estimated_costs(p))[0] for p in offered]
    assert minimum_peak(estimated_costs(chosen))[0] == min(least)


def test_there_are_none_where_users_have_marked_stages_or_nothing_repeats():
    target = cg.target("cpu")
    assert block_program_of(lambda ws, x: loss(ws, x, cg.stage(block)), target) is None
    assert block_program_of(lambda ws, x: loss(ws[:1], x), target) is None


def budgets(target):
    """From the smallest plan of any cut to that of storing everything."""
    costs = [estimated_costs(program_of(loss, target)), estimated_costs(block_program_of(loss, target))]
    return [int(b) for b in np.geomspace(min(minimum_peak(c)[0] for c in costs), everything_peak(costs[0]), 12)]


def test_plans_and_frontiers_choose_between_blocks_and_finer_stages_as_what_is_compiled(monkeypatch):
    """The fastest at each budget, so that a larger one is never slower; the smallest for the smallest."""
    target = cg.target("cpu")
    monkeypatch.setitem(vars(target.platform), "whole_blocks", True)
    cuts = [program_of(loss, target), block_program_of(loss, target)]
    curve = cg.frontier(loss, WS, X, costs="estimate")
    seconds, counts = [], set()
    for budget in budgets(target):
        alone = []
        for program in cuts:
            with suppress(cg.BudgetError):
                alone.append(make_plan(program, Request(budget=budget, costs="estimate")).seconds)
        plan = cg.plan(loss, WS, X, budget=budget, costs="estimate")
        assert plan.peak_bytes <= budget
        assert plan.seconds == min(alone) == pytest.approx(curve.at(budget).seconds)
        seconds.append(plan.seconds)
        counts.add(len(plan.costs))
    assert all(b <= a for a, b in pairwise(seconds))
    assert counts == {len(program.stages) for program in cuts}
    assert cg.plan(loss, WS, X, budget="min", costs="estimate").peak_bytes == budgets(target)[0]
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(loss, WS, X, budget=budgets(target)[0] - 1, costs="estimate")
    assert caught.value.smallest == budgets(target)[0]


@pytest.fixture
def plan_of_blocks(monkeypatch):
    """A plan that takes whole blocks as stages."""
    target = cg.target("cpu")
    monkeypatch.setitem(vars(target.platform), "whole_blocks", True)
    count = len(block_program_of(loss, target).stages)
    plans = (cg.plan(loss, WS, X, budget=b, costs="estimate") for b in budgets(target))
    return next(plan for plan in plans if len(plan.costs) == count)


def test_a_gradient_runs_by_a_plan_of_whole_blocks_and_by_its_schedule(plan_of_blocks):
    by_budget = cg.grad(loss, budget=plan_of_blocks.budget, costs="estimate")
    assert by_budget.plan(WS, X).schedule == plan_of_blocks.schedule
    given = cg.grad(loss, policy=plan_of_blocks.schedule)
    assert given.plan(WS, X).choices == plan_of_blocks.choices
    assert_same(jax.jit(given)(WS, X), jax.grad(loss)(WS, X), scale=8, whole=True)


@pytest.mark.slow
def test_a_plan_of_whole_blocks_is_observed_stage_by_stage(plan_of_blocks):
    course = cg.timeline(loss, WS, X, policy=plan_of_blocks.schedule, observe="ledger")
    assert course.readings["ledger"].bytes > 0


@pytest.mark.parametrize("budget", [pytest.param("0.6x", marks=pytest.mark.slow), "min", 10**9])
def test_where_a_target_asks_for_whole_blocks_the_gradient_is_the_same(budget, monkeypatch):
    """And plans are of whole blocks, where these are faster."""
    monkeypatch.setitem(vars(cg.target("cpu").platform), "whole_blocks", True)
    found = cg.value_and_grad(loss, budget=budget).compile(WS, X)
    # What a softmax hands back cancels in part: rounding is that of the largest entries.
    assert_same(found(WS, X), jax.value_and_grad(loss)(WS, X), scale=8, whole=True)
    if budget == 10**9:
        assert len(found.plan.program.stages) == len(block_program_of(loss, cg.target("cpu")).stages)
