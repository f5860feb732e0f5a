"""What results lend to temporaries before they are made: counted by hand, and as compilers place them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.example_models import experts, without_arrays
from ckptgrad.results.lent import Lending
from tests.support.targets import compile_only

X = jax.ShapeDtypeStruct((1024, 32), jnp.float32)
WS = [jax.ShapeDtypeStruct((32, 32), jnp.float32)] * 6
ARRAY, WEIGHT = X.size * 4, 32 * 32 * 4
# Streams of which a weight has a quarter of the bytes, and twice as many.
NARROW, FEW = (jax.ShapeDtypeStruct((n, 32), jnp.float32) for n in (128, 16))


def loss(ws, x):
    for w in ws:
        x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
    return jnp.mean(x**2)


def plan_of(*args, **options):
    return cg.plan(loss, *args, costs="compile", **options)


def lent_by_action(plan):
    lending = Lending(plan.program, plan.costs)
    return {str(action): lending.bytes for action in lending.follow(plan.schedule)}


def test_small_gradients_lend_nothing_to_a_large_stream():
    plan = plan_of(WS, X, policy="store_all")
    assert set(lent_by_action(plan).values()) == {0}
    assert plan.peak_bytes == plan.simulation.peak


def test_the_gradient_of_the_stream_lends_one_array_until_it_is_made():
    lent = lent_by_action(plan_of(WS, X, policy="store_all", argnums=(0, 1)))
    assert lent.pop("B0") == 0
    assert {lent[f"F{k}:0"] for k in range(6)} == {lent[f"B{k}"] for k in range(1, 6)} == {ARRAY}


def test_each_gradient_lends_until_its_stage_is_differentiated():
    plan = plan_of(WS, FEW, policy="recompute_all")
    lending = Lending(plan.program, plan.costs)
    lenders = {str(action): dict(lending.lenders()) for action in lending.follow(plan.schedule)}
    first = plan.program.wrt[0]
    assert [len(lenders[f"B{k}"]) <= k for k in range(6)] == [True] * 6
    assert lenders["B1"] == {first: FEW.size * 4}
    assert all(lent <= WEIGHT for at in lenders.values() for lent in at.values())


def test_lenders_lend_what_is_lent():
    plan = plan_of(WS, NARROW, budget="0.6x", argnums=(0, 1))
    lending = Lending(plan.program, plan.costs)
    for _ in lending.follow(plan.schedule):
        assert sum(lent for _, lent in lending.lenders()) == lending.bytes


def test_a_sum_lends_nothing_once_it_has_a_term():
    def tied(w, x):
        return loss([w] * 6, x)

    plan = cg.plan(tied, WS[0], FEW, policy="store_all", costs="estimate")
    lent = lent_by_action(plan)
    assert lent["F5:0"] > 0
    assert {lent[f"B{k}"] for k in range(6)} == {0}


@pytest.mark.parametrize("budget", [None, "0.7x", "0.5x"])
def test_xla_takes_what_is_predicted_where_the_stream_has_a_gradient(budget):
    certified = cg.value_and_grad(loss, (0, 1), budget=budget).compile(WS, X)
    plan = certified.plan
    assert plan.peak_bytes == plan.simulation.peak - ARRAY
    assert certified.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)


EXPERTS = {"layers": 3, "width": 256, "hidden": 512, "count": 4, "groups": 4, "tokens": 512}


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, "min"])
def test_a_gpus_compiler_takes_what_is_predicted_of_experts(budget):
    """Weights, one set for each expert, are as large as what passes between layers."""
    target = compile_only("h100")
    problem, args = without_arrays(experts, jnp.bfloat16, **EXPERTS)
    plan = cg.plan(problem, *args, budget=budget, target=target, costs="compile")
    gradient = jax.jit(cg.value_and_grad(problem, policy=plan.schedule, target=target))
    memory = target.allocated(target.compile(target.lower(gradient, *args)))
    assert plan.peak_bytes < 0.95 * plan.simulation.peak
    assert memory.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.08)
