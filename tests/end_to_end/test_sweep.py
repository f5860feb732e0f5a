"""Ten models over many budgets: kept, monotone, and how near the prediction is to XLA's buffer assignment."""

from __future__ import annotations

import functools
import itertools
import statistics

import jax
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.example_models import SWEEP
from ckptgrad.planner import make_plan
from ckptgrad.request import Request
from ckptgrad.results.frontier import Frontier
from ckptgrad.target.allocated import compiled_memory
from tests.support.targets import compile_only

ALL = pytest.mark.parametrize("name", SWEEP)


@functools.cache
def model(name):
    make, sizes = SWEEP[name]
    loss, args = make(**sizes)
    return loss, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)


@functools.cache
def curve(name, costs="estimate") -> Frontier:
    loss, args = model(name)
    return cg.frontier(loss, *args, costs=costs, chunks=False)


def budgets(name, count, costs="estimate"):
    ends = curve(name, costs)
    return [int(b) for b in np.geomspace(ends.smallest_peak_bytes, ends.fastest_peak_bytes, count)]


@ALL
def test_plans_are_kept_and_monotone_over_thirty_budgets(name):
    loss, args = model(name)
    program = cg.plan(loss, *args).program
    plans = [make_plan(program, Request(budget=budget), curve(name).costs) for budget in budgets(name, 30)]
    assert all(p.budget is not None and p.peak_bytes <= p.budget for p in plans)
    assert all(b.seconds <= a.seconds * (1 + 1e-9) for a, b in itertools.pairwise(plans))
    assert all(p.least_seconds <= p.seconds * (1 + 1e-9) for p in plans)


def check_certified(name, count, target=None):
    """Budgets from the smallest certified peak to that of storing all are kept, and a larger one is never slower."""
    loss, args = model(name)
    least = cg.grad(loss, budget="min", target=target).compile(*args).peak_bytes
    most = cg.grad(loss, policy="store_all", target=target).compile(*args).peak_bytes
    seconds = []
    for budget in np.geomspace(least, most, count):
        certified = cg.grad(loss, budget=int(budget), target=target).compile(*args)
        assert certified.peak_bytes <= int(budget)
        seconds.append(certified.plan.seconds)
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(seconds))


@pytest.mark.slow
@ALL
def test_thirty_certified_budgets_are_kept_and_a_larger_one_is_never_slower(name):
    check_certified(name, 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gelu", "transformer"])
def test_ten_certified_budgets_for_a_gpu_are_kept_and_a_larger_one_is_never_slower(name):
    check_certified(name, 10, compile_only("h100"))


def errors(name, costs, count):
    """How far XLA's peak is from the predicted one, budget by budget."""
    loss, args = model(name)
    found = []
    for budget in budgets(name, count, costs):
        plan = cg.plan(loss, *args, budget=budget, costs=costs)
        executable = jax.jit(cg.grad(loss, policy=plan.schedule)).lower(*args).compile()
        found.append(compiled_memory(executable).peak_bytes / plan.peak_bytes - 1)
    return found


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("gelu", "mixed", "recurrent", "tied")]


@pytest.mark.parametrize("name", ["tanh", *SLOW])
def test_predictions_by_stage_are_near_what_xla_allocates(name):
    assert max(map(abs, errors(name, "compile", 3))) <= 0.08


@pytest.mark.slow
def test_predictions_by_stage_over_ten_models_and_eight_budgets():
    found = {name: [abs(e) for e in errors(name, "compile", 8)] for name in SWEEP}
    sizes = [e for row in found.values() for e in row]
    assert statistics.median(sizes) <= 0.03
    assert max(sizes) <= 0.08, found


@pytest.mark.slow
def test_estimates_over_ten_models_and_eight_budgets():
    """Without asking XLA, for plans under plain jit: group norms hold more than is estimated, the U-Net less.

    Found of the others: at most 0.21, in bfloat16, where XLA computes in float32.
    """
    found = {name: errors(name, "estimate", 8) for name in SWEEP}
    others = [abs(e) for name, row in found.items() for e in row if name not in ("resnet", "unet")]
    assert statistics.median(others) <= 0.05
    assert max(others) <= 0.25, found
    assert max(found["unet"]) < 0, found
