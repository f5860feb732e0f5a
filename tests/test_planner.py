"""Which budget a plan is made for, and by which costs one is that will be compiled."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad import planner
from ckptgrad.costs import asked as asked_costs
from ckptgrad.costs import source
from ckptgrad.costs.asked import AskedCosts
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probes import compile_probes
from ckptgrad.example_models import experts, without_arrays
from ckptgrad.planner import costs_before_refusing, costs_to_compile
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.request import Request
from ckptgrad.target.attached import attached
from tests.support.targets import compile_only

X = jnp.array([1.0, 2.0])


def total(x):
    return jnp.sum(x * x)


def test_relative_budgets_and_words():
    whole = cg.plan(total, X, budget="1x").budget
    assert cg.plan(total, X, budget="3x").budget == 3 * whole
    assert cg.plan(total, X, budget="min").budget <= whole
    assert cg.plan(total, X, budget="auto").budget > 2**20
    assert cg.plan(total, X).budget is None


def attention(ws, x):
    for w in ws:
        x = x + jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", x @ w, x), -1) @ x
    return jnp.mean(x**2)


def test_of_very_many_programs_those_of_the_plans_within_a_budget_are_asked_about_before_it_is_refused(monkeypatch):
    args = [jax.ShapeDtypeStruct((16, 16), jnp.float32)] * 2, jax.ShapeDtypeStruct((8, 64, 16), jnp.float32)
    least = cg.grad(attention, budget="min").compile(*args).peak_bytes
    program, request = cg.plan(attention, *args).program, Request(budget=least)
    assert costs_before_refusing(program, request, least) is None
    for module in (planner, source):
        monkeypatch.setattr(module, "count_probes", lambda program: 1 + source.MOST_PROBES)
    assert costs_to_compile(program, request) == estimated_costs(program)
    assert cg.grad(attention, budget=least).compile(*args).peak_bytes <= least


def test_where_a_call_takes_longer_than_asking_all_chunks_are_asked_about(monkeypatch):
    """A question takes no time, or more than a call: then about the backwards of the smallest plan alone."""
    args = [jax.ShapeDtypeStruct((16, 16), jnp.float32)], jax.ShapeDtypeStruct((8, 32, 16), jnp.float32)
    program, request = cg.plan(attention, *args, budget="min", chunks=True).program, Request(budget=1, chunks=True)
    (kind,) = program.kinds
    assert [k for k, o in enumerate(kind.options) if "chunks of" in o.name] == [*kind.over_chunks] != []
    asked: list[set] = []

    def remember(probes):
        asked[-1].update((probe.run, probe.option) for probe in probes)
        compile_probes(probes)

    monkeypatch.setattr(asked_costs, "compile_probes", remember)
    for seconds in (1e9, 0):
        asked.append(set())
        monkeypatch.setattr(planner, "QUESTION_SECONDS", seconds)
        costs_to_compile(program, request)
    few, all_ = asked
    assert few < all_
    assert all_ >= {("backward", k) for k in kind.over_chunks}
    assert {run for run, _ in all_} == {"backward"}


def runge_kutta(w, y):
    def slope(y):
        return jnp.tanh(jnp.tanh(y @ w) @ w)

    def step(y, _):
        a = slope(y)
        b = slope(y + 0.05 * a)
        c = slope(y + 0.05 * b)
        return y + 0.1 / 6 * (a + 2 * b + 2 * c + slope(y + 0.1 * c)), None

    return jnp.mean(jax.lax.scan(step, y, None, length=16)[0] ** 2)


@pytest.mark.slow
def test_where_the_smallest_plan_takes_more_than_estimated_plans_near_it_are_asked_about():
    """The compiler holds what one step makes twice where it runs alone: more checkpoints take fewer bytes."""
    args = jax.ShapeDtypeStruct((16, 16), jnp.float32), jax.ShapeDtypeStruct((1024, 16), jnp.float32)
    least = cg.grad(runge_kutta, budget="min").compile(*args).peak_bytes
    asked = AskedCosts(cg.plan(runge_kutta, *args).program)
    schedule = cg.plan(runge_kutta, *args, budget="min", costs="estimate").schedule
    assert asked.ask(schedule, sure=True, most=source.MOST_PROBES)
    assert least < minimum_peak(asked.costs)[0]
    assert least <= cg.grad(runge_kutta, budget=least).compile(*args).peak_bytes


def test_where_few_options_are_asked_about_costs_do_not_depend_on_the_budget():
    """Plans by different costs cannot be compared: a larger budget would give a slower one."""
    target = attached()
    seconds = lambda module, rates, links, without: 1.0 + len(module.computations)
    platform = replace(target.platform, quick_probes=False, slow_probes=True, compiled_seconds=seconds)
    args = [jax.ShapeDtypeStruct((8, 8), jnp.float32)] * 3, jax.ShapeDtypeStruct((4, 8, 8), jnp.float32)
    program = cg.plan(attention, *args, target=replace(target, platform=platform)).program
    costs = [costs_to_compile(program, Request(budget=b)) for b in ("min", "0.45x", "0.6x", "0.9x")]
    assert costs[0] != estimated_costs(program)
    assert all(c == costs[0] for c in costs)


@pytest.mark.parametrize(("slow", "bytes_more", "questions"), [(True, 2**20, 2), (True, 16, 1), (False, 2**20, 1)])
def test_where_questions_take_long_a_smallest_plan_that_takes_far_more_than_estimated_is_not_the_last(
    monkeypatch, slow, bytes_more, questions
):
    asked = []

    class Asked:
        """Costs by which each backward takes more once something was asked."""

        def __init__(self, program):
            self.costs = self.estimated = estimated_costs(program)

        def ask(self, actions, **_):
            asked.append(len(actions))
            if len(asked) == 1:
                stages = [
                    replace(s, options=tuple(replace(o, backward_transient=bytes_more) for o in s.options))
                    for s in self.costs.stages
                ]
                self.costs = replace(self.costs, stages=tuple(stages))
            return True

    monkeypatch.setattr(planner, "AskedCosts", Asked)
    target = attached()
    platform = replace(target.platform, quick_probes=False, slow_probes=slow)
    program = cg.plan(layers, *LAYERS, target=replace(target, platform=platform)).program
    if not slow:
        program = replace(program, chunked=True)
    costs_to_compile(program, Request(budget=2**30))
    assert len(asked) == questions
    assert all(asked)


@pytest.mark.slow
def test_a_gpus_compiler_is_asked_about_every_option_for_the_smallest_plan_and_before_a_budget_is_refused():
    """What few options take more than estimated, the others need not."""
    target = compile_only("h100")
    sizes = {"layers": 2, "width": 128, "hidden": 512, "count": 8, "groups": 8, "tokens": 256}
    loss, args = without_arrays(experts, jnp.bfloat16, **sizes)
    least = cg.grad(loss, budget="min", target=target, costs="compile").compile(*args)
    assert cg.grad(loss, budget="min", target=target).compile(*args).plan.schedule == least.plan.schedule
    for factor in (1, 1.2):
        near = cg.grad(loss, budget=int(factor * least.peak_bytes), target=target).compile(*args)
        assert near.peak_bytes <= factor * least.peak_bytes
        assert near.plan.costs == least.plan.costs
        assert near.plan.seconds <= least.plan.seconds


def layers(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


LAYERS = [jnp.eye(16)] * 6, jnp.ones((256, 16))


@pytest.mark.parametrize("policy", ["optimal", "store_all", "sqrt"])
def test_a_refusal_says_what_the_smallest_peak_consists_of(policy):
    """It is the plan's of that budget, in bytes, by kind, with its time; and the multiple that is given is feasible."""
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(layers, *LAYERS, budget=100, policy=policy, costs="estimate")
    error, plan = caught.value, cg.plan(layers, *LAYERS, budget=caught.value.smallest, policy=policy, costs="estimate")
    floor = error.floor
    assert floor.bytes == error.smallest == plan.peak_bytes == sum(floor.at_peak.by_kind.values())
    assert (floor.at_peak.stage, floor.at_peak.seconds) == (error.stage, plan.seconds)
    assert not floor.is_guess
    by_share = cg.plan(layers, *LAYERS, budget=error.multiple, policy=policy, costs="estimate")
    assert error.smallest <= by_share.budget < 1.01 * error.smallest
    assert f'("{error.multiple}" of what storing everything needs)' in str(error)
    assert f"during the backward of stage {error.stage} (ws[{error.stage}], test_planner.py:" in str(error)


def test_a_schedule_of_ones_own_that_does_not_fit_is_broken_down_itself():
    schedule = cg.plan(layers, *LAYERS, policy="store_all", costs="estimate").schedule
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(layers, *LAYERS, budget=100, policy=schedule, costs="estimate")
    error = caught.value
    assert error.floor.bytes == error.smallest
    assert error.floor.slowdown == 1.0
    assert "use policy 'optimal'" in str(error)


def test_a_refusal_before_the_compiler_is_asked_says_so(monkeypatch):
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(layers, *LAYERS, budget=100)
    assert not caught.value.floor.is_guess  # nobody asks about so small a program
    monkeypatch.setattr(planner, "WORTH_ASKING", 0)
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(layers, *LAYERS, budget=100)
    assert caught.value.floor.is_guess
    assert str(caught.value).endswith("and may take more; budget='min' asks it")


@pytest.mark.slow
def test_a_refusal_after_the_compiler_was_asked_is_no_guess(monkeypatch):
    monkeypatch.setattr(planner, "WORTH_ASKING", 0)
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(layers, *LAYERS, budget=cg.plan(layers, *LAYERS, budget="min").budget - 1)
    assert not caught.value.floor.is_guess


def test_the_floor_of_a_long_chain_is_that_of_a_short_one(monkeypatch):
    ws, x = jnp.ones((6, 8, 8)), jnp.ones((4, 8))
    with pytest.raises(cg.BudgetError) as judged:
        cg.plan(layers, ws, x, budget=64)
    wanted = judged.value.floor.bytes, judged.value.floor.at_peak.by_kind, judged.value.multiple
    monkeypatch.setattr(planner, "LONG_CHAIN", 2)
    with pytest.raises(cg.BudgetError) as unjudged:
        cg.plan(layers, ws, x, budget=64)
    found = unjudged.value.floor.bytes, unjudged.value.floor.at_peak.by_kind, unjudged.value.multiple
    assert found == wanted
