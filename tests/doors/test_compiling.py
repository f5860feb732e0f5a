"""What a budget that is too small is told."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.chain.cutting import Ways
from ckptgrad.doors import compiling
from ckptgrad.doors.compiling import Cut, compile_within
from ckptgrad.request import Request
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.imagined import Imagined

WS, X = tanh_arguments(16, 64, layers=3)


def scanned_loss(ws, x):
    return jnp.mean(jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0] ** 2)


@pytest.mark.parametrize(
    ("loss", "ws"),
    [
        pytest.param(tanh_loss, WS, id="stages", marks=pytest.mark.slow),
        pytest.param(scanned_loss, jnp.stack(WS), id="a loop"),
    ],
)
def test_the_bytes_that_a_refusal_names_are_enough(loss, ws):
    """They are certified, of the plans by both sources of costs, so no second refusal names others."""
    with pytest.raises(cg.BudgetError) as refused:
        cg.value_and_grad(loss, budget=100).compile(ws, X)
    smallest = refused.value.smallest
    assert refused.value.budget == 100
    assert cg.value_and_grad(loss, budget=smallest).compile(ws, X).peak_bytes <= smallest


@pytest.mark.parametrize("change", [1, -1, 2])
@pytest.mark.parametrize("budget", [None, "min"])
def test_a_function_that_changes_from_trace_to_trace_is_refused(change, budget):
    depth = [5]

    def changing(ws, x):
        depth[0] += change
        for w in ws[: depth[0]]:
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
        return jnp.mean(x**2)

    with pytest.raises(cg.ScheduleError, match=r"changing .* has \d+ stages, and had \d+ when it was planned"):
        cg.value_and_grad(changing, budget=budget).compile(WS * 3, X)


@pytest.fixture
def compile_imagined(monkeypatch):
    """From imagined programs and a budget to what is certified: as `compile_within`, where programs only have numbers."""
    monkeypatch.setattr(compiling, "costs_to_compile", lambda program, request: program)
    monkeypatch.setattr(compiling, "estimated_costs", lambda program: program)
    monkeypatch.setattr(compiling, "costs_before_refusing", lambda program, request, budget: None)
    monkeypatch.setattr(compiling, "limit_bytes", lambda program, request, costs: request.budget)
    monkeypatch.setattr(
        compiling, "make_plan", lambda program, request, costs: program.build(program.limit(request.budget))[0]
    )

    def compile_programs(programs, budget):
        cuts = Ways([Cut(program, program.number_of) for program in programs])
        return compile_within(cuts, Request(budget=budget), (), {})

    return compile_programs


def two_cuts(seed):
    """Ways to cut a call: the second has fewer plans, some of which are faster at the same bytes; neither takes less than is
    predicted."""
    random = np.random.default_rng(seed)
    made = []
    for count, least in ((40, 1000), (int(random.integers(3, 12)), int(random.integers(900, 3000)))):
        predicted = np.unique(np.geomspace(least, 10_000, count).astype(int))
        taken = (predicted * random.uniform(1, 1.07, len(predicted))).astype(int)
        made.append((predicted.tolist(), taken.tolist(), float(random.uniform(4, 12)) if made else 1.0))
    return [lambda m=m: Imagined(m[0], m[1], opened=10**6, pace=m[2]) for m in made]


@pytest.mark.parametrize("seed", range(8))
def test_of_several_ways_to_cut_the_fastest_is_taken_and_a_larger_budget_is_never_slower(compile_imagined, seed):
    makes = two_cuts(seed)
    seconds = []
    for budget in range(1080, 12_000, 177):
        alone = []
        for make in makes:
            with suppress(cg.BudgetError):
                alone.append(compile_imagined([make()], budget).plan.seconds)
        found = compile_imagined([make() for make in makes], budget)
        assert found.peak_bytes <= budget
        assert found.plan.seconds == min(alone)
        seconds.append(found.plan.seconds)
    assert all(b <= a for a, b in pairwise(seconds))


def test_of_the_smallest_plans_the_smallest_is_taken(compile_imagined):
    fine, coarse = Imagined([900, 2000], [950, 2000]), Imagined([800, 2000], [940, 2000])
    assert compile_imagined([fine, coarse], "min").peak_bytes == 940
    assert compile_imagined([coarse, fine], "min").peak_bytes == 940


def test_where_no_way_to_cut_fits_the_fewest_bytes_are_named(compile_imagined):
    with pytest.raises(cg.BudgetError) as caught:
        compile_imagined([Imagined([900], [950], opened=1000), Imagined([800], [940], opened=1000)], 500)
    assert caught.value.smallest == 940


def test_where_questions_take_long_finer_stages_are_compiled_only_if_no_plan_of_blocks_fits(compile_imagined):
    def two():
        fine = Imagined([900, 2000], [900, 2000], opened=2100, slow=True, pace=9)
        return [fine, Imagined([1500, 1900], [1500, 1900], opened=2100, slow=True)]

    fine, coarse = two()
    assert compile_imagined([fine, coarse], 1600).plan.program is coarse
    assert fine.compilations == 0
    fine, coarse = two()
    assert compile_imagined([fine, coarse], 1000).plan.program is fine
    with pytest.raises(cg.BudgetError) as caught:
        compile_imagined(two(), 500)
    assert caught.value.smallest == 900


@pytest.mark.parametrize(("slow", "budget", "asked"), [(True, None, False), (False, None, True), (True, 2000, True)])
def test_nothing_is_asked_about_stages_where_the_open_program_is_taken_anyway(
    compile_imagined, monkeypatch, slow, budget, asked
):
    programs = []
    monkeypatch.setattr(compiling, "costs_to_compile", lambda program, request: programs.append(program) or program)
    program = Imagined([900, 1900], [900, 1900], opened=1900, slow=slow)
    assert not compile_imagined([program], budget).plan.fenced
    assert programs == [program] * asked


@pytest.mark.parametrize(
    ("slow", "pace", "asked"),
    [
        # By estimates alone the second cut over chunks is faster, the same, or slower: it is asked about first, or not.
        (True, 2.0, ["second"]),
        (True, 1.0, ["first"]),
        (True, 0.5, ["first"]),
        (False, 0.5, ["first", "second"]),
    ],
)
def test_where_questions_take_long_no_cut_over_chunks_is_asked_about_that_is_slower_by_estimates(
    compile_imagined, monkeypatch, slow, pace, asked
):
    found = []
    names = {}

    def costs(program, request):
        found.append(names[program])
        return program

    def by_estimates(programs, request):
        plans = []
        for program in programs:
            with suppress(cg.BudgetError):
                plans.append(program.build(request.budget)[0])
        return min(plans, key=lambda plan: plan.seconds, default=None)

    monkeypatch.setattr(compiling, "costs_to_compile", costs)
    monkeypatch.setattr(compiling, "plan_by_estimates", by_estimates)
    monkeypatch.setattr(compiling, "prefers_chunks", lambda ways, request: True)
    monkeypatch.setattr(compiling, "beside", lambda plan, planned, programs: plan)
    whole, first, second = (Imagined([900], [900], slow=slow, pace=p) for p in (0.1, 1.0, pace))
    names |= {first: "first", second: "second", whole: "whole"}
    cuts = Ways([Cut(whole, whole.number_of)], lambda: [Cut(p, p.number_of) for p in (first, second)])
    compile_within(cuts, Request(budget=1000), (), {})
    assert found == asked


def test_no_other_stages_are_compiled_beside_an_open_program(compile_imagined):
    fine, coarse = Imagined([900, 2000], [900, 2000], opened=1900), Imagined([800], [800], pace=100.0)
    assert not compile_imagined([fine, coarse], 2000).plan.fenced
    assert coarse.compilations == 0


def test_a_long_chain_whose_gradients_do_not_fit_is_refused_before_its_smallest_plan_is_compiled(monkeypatch):
    ws, x = tanh_arguments(8, 8)
    monkeypatch.setattr(compiling, "LONG_CHAIN", 4)
    monkeypatch.setattr(compiling, "certify_faster", lambda *_, **__: pytest.fail("the smallest plan is compiled"))
    options = {"budget": "0.1x", "runtime": "staged", "costs": "estimate"}
    with pytest.raises(cg.BudgetError) as found:
        cg.grad(tanh_loss, **options).compile(ws, x)
    assert found.value.budget < len(ws) * ws[0].nbytes < found.value.smallest == found.value.floor.bytes
    assert f'("{found.value.multiple}" of what storing everything needs)' in str(found.value)
