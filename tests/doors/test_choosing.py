"""Which ways to cut a call are planned: over chunks where a budget asks for that, and then no others."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.bytes import format_bytes
from ckptgrad.chain.cutting import Ways
from ckptgrad.costs import asked
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.doors.choosing import (
    chunked_seconds,
    holds_enough,
    is_smaller_by_far,
    over_chunks,
    prefers_chunks,
    worth_chunking,
)
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.execution.search import MERGED
from ckptgrad.planning.budget import everything_peak
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.request import Request
from ckptgrad.target import target as host
from ckptgrad.target.host_memory import Free
from ckptgrad.target.target import described

WIDTH, HIDDEN, BATCH = 32, 512, 64
WS = [np.random.default_rng(k).normal(size=(WIDTH, HIDDEN)).astype("float32") / 8 for k in range(3)]
X = np.ones((BATCH, WIDTH), "float32")


def mlp(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w) @ w.T
    return jnp.mean(x**2)


def request(budget, **options):
    return Request(budget=budget, chunks=True, **options)


def ways_of(asks):
    return GradientFunction(mlp, asks, with_value=True).chains(WS, X).map(lambda chain: chain.program)


@pytest.fixture(scope="module")
def ways():
    return ways_of(request("min"))


@pytest.fixture(scope="module")
def least(ways):
    """The fewest bytes of stages that run whole, and of those that may run over chunks, by estimates."""
    return [cg.plan(mlp, WS, X, budget="min", costs="estimate", chunks=chunks).peak_bytes for chunks in (False, True)]


def test_chunks_are_preferred_where_others_keep_no_budget(ways, least):
    whole, chunked = least
    assert prefers_chunks(ways, request(whole - 1))
    assert prefers_chunks(ways, request("min"))
    assert not prefers_chunks(ways, request(chunked - 1))


def test_chunks_are_not_even_made_where_a_budget_is_roomy(ways):
    def never():
        raise AssertionError

    assert not prefers_chunks(Ways(ways.whole, never), request(2**30))
    assert not prefers_chunks(Ways(ways.whole), request("min"))


def test_estimates_do_not_decide_where_costs_are_measured(ways):
    assert not prefers_chunks(ways, request("min", costs="measure"))


def test_only_the_optimal_policy_chooses_chunks():
    plan = cg.plan(mlp, WS, X, policy="recompute_all")
    assert not worth_chunking(plan, plan.program, Request(policy="recompute_all", budget="min"))
    assert worth_chunking(None, plan.program, Request(policy="recompute_all", budget="min"))


def test_unless_asked_for_chunks_are_for_stages_that_hold_much_inside():
    """From 1 MiB on: the hidden layers of 1,024 examples, and of 64."""
    for batch, large in [(1024, True), (BATCH, False)]:
        x = np.ones((batch, WIDTH), "float32")
        whole, plan = (cg.plan(mlp, WS, x, budget="min", costs="estimate", chunks=chunks) for chunks in (False, "auto"))
        assert holds_enough(whole.program, Request()) == large
        assert not whole.program.chunked
        assert plan.program.chunked == large


def test_a_plan_that_is_about_as_fast_as_without_a_budget_stays_whole():
    x = np.ones((1024, WIDTH), "float32")
    assert not cg.plan(mlp, WS, x, budget="1x", costs="estimate").program.chunked
    assert not cg.plan(mlp, WS, x).program.chunked


def test_no_larger_budget_is_told_to_be_slower_where_chunks_are_in_between(least):
    """As stages that run whole are not compared with others where they are about as fast as without a budget."""
    most = cg.plan(mlp, WS, X, policy="store_all").peak_bytes
    budgets = np.geomspace(least[1], most, 8).astype(int)
    plans = [cg.plan(mlp, WS, X, budget=int(b), costs="estimate", chunks=True) for b in budgets]
    chunked = [plan for plan in plans if plan.program.chunked]
    assert 0 < len(chunked) < len(plans)
    assert all(b.seconds <= a.seconds for a, b in itertools.pairwise(plans))
    assert all(plan.seconds >= chunked_seconds(plans[-1].program) for plan in chunked)


def test_where_chunks_stay_near_they_are_taken_unless_there_is_room_to_store_everything():
    """And are not told to be faster than that; what a compiler says of them is believed."""
    tpu = described("tpu")
    near = replace(tpu, rates=replace(tpu.rates, launch=0.0, write_rate=1e6, read_rate=1e6))
    options = {"costs": "estimate", "chunks": True, "target": near}
    most = everything_peak(cg.plan(mlp, WS, X, **options).costs)
    tight, roomy = (cg.plan(mlp, WS, X, budget=budget, **options) for budget in (int(most / MERGED) - 1, most))
    assert (tight.program.chunked, roomy.program.chunked) == (True, False)
    assert tight.simulation.time < roomy.seconds <= tight.seconds
    assert over_chunks(replace(tight, floor_seconds=0.0), roomy.program, asked=True).seconds == tight.simulation.time


def test_no_compiler_is_asked_about_stages_that_run_whole_where_chunks_are_preferred(monkeypatch):
    probed = []
    compile_probes = asked.compile_probes

    def recorded(probes):
        probed.extend(probes)
        compile_probes(probes)

    monkeypatch.setattr(asked, "compile_probes", recorded)
    assert cg.plan(mlp, WS, X, budget="min", chunks=True).program.chunked
    assert probed
    assert all(probe.kind.chunked and probe.run == "backward" for probe in probed)


def test_a_refusal_gives_the_least_budget_as_a_share_of_what_the_finest_stages_need(ways, least):
    """Whichever stages hold the fewest bytes: with that budget there is a plan."""
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(mlp, WS, X, budget=100, costs="estimate", chunks=True)
    error = caught.value
    assert error.smallest == min(least) == error.floor.bytes
    assert error.floor.everything_bytes == everything_peak(estimated_costs(ways.finest))
    assert cg.plan(mlp, WS, X, budget=error.multiple, costs="estimate", chunks=True).peak_bytes <= 1.01 * error.smallest


def test_what_a_budget_auto_is_taken_from_is_said_in_the_plan_the_certificate_and_the_error(monkeypatch):
    words = "90% of what the limit of the container, 1.0 GiB (memory.max), leaves"
    free = [2**30]
    monkeypatch.setattr(host, "free_host_memory", lambda: Free(free[0], words))
    plan = cg.plan(mlp, WS, X, budget="auto", costs="estimate")
    assert (plan.budget, plan.budget_source) == (2**30, words)
    assert f"budget 1.0 GiB ({words})" in " ".join(str(plan).split())
    assert plan.to_dict()["budget_source"] == words
    certified = cg.value_and_grad(mlp, budget="auto").compile(WS, X)
    assert (certified.budget, certified.budget_source) == (2**30, words)
    assert f"1.0 GiB ({words})" in str(certified)
    free[0] = 1000
    with pytest.raises(cg.BudgetError, match=r"a budget of 1000 bytes.*, 90% of what the limit of the container"):
        cg.plan(mlp, WS, X, budget="auto", costs="estimate")
    with pytest.raises(cg.BudgetError) as caught:
        cg.value_and_grad(mlp, budget="auto").compile(WS, X)
    assert caught.value.source == words
    assert cg.plan(mlp, WS, X, budget=2**30, costs="estimate").budget_source == ""


def test_a_share_says_of_what_it_is_one():
    plan = cg.plan(mlp, WS, X, budget="0.9x", costs="estimate", chunks=False)
    words = f"0.9x of the {format_bytes(everything_peak(plan.costs))} that storing everything takes"
    assert plan.budget_source == words
    assert plan.timeline().budget_source == words
    assert f"({words})" in " ".join(str(plan.timeline()).split())
    with pytest.raises(cg.BudgetError) as caught:
        cg.plan(mlp, WS, X, budget="0.01x", costs="estimate", chunks=False)
    assert caught.value.source == words.replace("0.9x", "0.01x")


@pytest.mark.slow
def test_a_share_that_is_compiled_says_of_what_the_compiler_says():
    """Estimates and compilers differ in what storing everything takes, so that one share is two numbers of bytes."""
    course = cg.timeline(mlp, WS, X, budget="0.9x", chunks=False)
    assert course.budget_source.startswith("0.9x of the ")
    assert f"({course.budget_source})" in " ".join(str(course).split())
    with pytest.raises(cg.BudgetError, match=r"bytes.*, 0.01x of the .* that storing everything takes, is below"):
        cg.value_and_grad(mlp, budget="0.01x", chunks=False).compile(WS, X)


def test_the_smallest_plan_is_one_over_chunks_only_if_it_is_smaller_by_more_than_a_boundary():
    """Compilers may lay out a boundary more beside a loop over chunks."""

    def plan(peak, boundary=100):
        costs = ChainCosts.uniform(2, residual_bytes=0, boundary_bytes=boundary, cotangent_bytes=boundary)
        return SimpleNamespace(peak_bytes=peak, costs=costs)

    assert is_smaller_by_far(plan(1000), plan(1101))
    assert not is_smaller_by_far(plan(1000), plan(1100))
    assert not is_smaller_by_far(plan(300), plan(400))
    assert is_smaller_by_far(plan(300), plan(401))
