"""Budgets are kept by XLA's own buffer assignment; a smaller one costs arithmetic, never the gradient."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.example_models import tanh_chain, transformer
from ckptgrad.target.allocated import compiled_memory
from tests.cases import ROUNDED_AS_WE_DO
from tests.support.compare import assert_same

KIB = 1024


@functools.cache
def model(name):
    """(loss, abstract arguments, bytes of jax.grad's temporaries, of its outputs, its flops)."""
    make, sizes = MODELS[name]
    loss, args = make(**sizes)
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    reference = jax.jit(jax.value_and_grad(loss)).lower(*args).compile()
    memory = compiled_memory(reference)
    return loss, args, memory.temporary_bytes, memory.output_bytes, reference.cost_analysis()["flops"]


MODELS = {
    "tanh": (tanh_chain, {}),
    "small tanh": (tanh_chain, {"layers": 8, "width": 64, "batch": 256}),
    "transformer": (transformer, {}),
    "small transformer": (transformer, {"blocks": 4, "width": 64, "context": 128, "batch": 4}),
}


def budget_of(name, percent):
    _, _, temporaries, outputs, _ = model(name)
    return temporaries * percent // 100 + outputs


def compiled(name, budget):
    """(XLA's memory, the plan, flops) under plain jit."""
    loss, args, *_ = model(name)
    door = cg.value_and_grad(loss, budget=budget)
    executable = jax.jit(door).lower(*args).compile()
    return compiled_memory(executable), door.plan(*args), executable.cost_analysis()["flops"]


@pytest.mark.parametrize("percent", [60, 37, 25, 19, 14])
def test_thirty_two_tanh_layers_keep_a_budget_under_plain_jit(percent):
    budget = budget_of("tanh", percent)
    memory, plan, _ = compiled("tanh", budget)
    assert plan.peak_bytes <= budget
    assert memory.peak_bytes <= 1.02 * budget
    assert abs(memory.peak_bytes - plan.peak_bytes) <= KIB * len(plan.costs)
    assert abs(memory.temporary_bytes - plan.temporary_bytes) <= KIB * len(plan.costs)


@pytest.mark.parametrize("percent", [60, 37, 25, 19, 14])
def test_thirty_two_tanh_layers_keep_a_budget_exactly_when_certified(percent):
    loss, args, *_ = model("tanh")
    budget = budget_of("tanh", percent)
    certified = cg.value_and_grad(loss, budget=budget).compile(*args)
    assert certified.peak_bytes == compiled_memory(certified.executable).peak_bytes
    assert certified.peak_bytes <= budget


TRANSFORMERS = [
    ("small transformer", 30),
    *[pytest.param("small transformer", p, marks=pytest.mark.slow) for p in (60, 40)],
    *[pytest.param("transformer", p, marks=pytest.mark.slow) for p in (45, 25, 19, 15)],
]
# Plain jit is predicted only: softmax's backward reads row sums as arrays on CPU, which the estimate does not foresee
# and which count where little else is held.
FORGIVEN = {("small transformer", 30): 0.05}


@pytest.mark.parametrize(("name", "percent"), TRANSFORMERS)
def test_a_transformer_keeps_a_budget(name, percent):
    loss, args, *_ = model(name)
    budget = budget_of(name, percent)
    memory, plan, _ = compiled(name, budget)
    assert plan.peak_bytes <= budget
    assert memory.peak_bytes <= (1 + FORGIVEN.get((name, percent), 0.02)) * budget
    certified = cg.value_and_grad(loss, budget=budget).compile(*args)
    assert certified.peak_bytes <= budget


def test_without_a_budget_nothing_is_computed_twice():
    *_, flops = model("tanh")
    memory, plan, found = compiled("tanh", None)
    assert plan.simulation.recomputations == 0
    assert found == pytest.approx(flops, rel=0.01)
    assert abs(memory.peak_bytes - plan.peak_bytes) <= KIB * len(plan.costs)


def test_recomputation_is_really_there():
    """XLA counts more and more flops as budgets tighten: the compiler did not merge the recomputation away."""
    found = [compiled("tanh", budget_of("tanh", p))[2] for p in (100, 60, 37, 25, 19, 14)]
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    *_, reference = model("tanh")
    forward = 32 * 2 * 2048 * 512 * 512
    assert found[0] >= reference
    # At 14 % almost every layer's product is done again, at least once.
    assert found[-1] > reference + 0.9 * forward


def test_ten_budgets_from_the_least_to_storing_everything():
    """Certified peaks keep every budget, predicted time falls as budgets grow."""
    loss, args, *_ = model("small tanh")
    least = cg.plan(loss, *args, budget="min").budget
    everything = cg.plan(loss, *args, budget="1x").budget
    assert least < 0.6 * everything
    seconds, recomputations = [], []
    for budget in np.linspace(least + 8 * KIB, everything, 10).astype(int):
        certified = cg.value_and_grad(loss, budget=int(budget)).compile(*args)
        assert certified.peak_bytes <= budget
        assert abs(certified.peak_bytes - certified.plan.peak_bytes) <= KIB * len(certified.plan.costs)
        seconds.append(certified.plan.seconds)
        recomputations.append(certified.plan.simulation.recomputations)
    assert seconds == sorted(seconds, reverse=True)
    assert recomputations[0] > recomputations[-1] == 0


@functools.cache
def concrete(name):
    """(loss, arguments, what jax.value_and_grad says)."""
    make, sizes = MODELS[name]
    loss, args = make(**sizes)
    return loss, args, jax.jit(jax.value_and_grad(loss))(*args)


@pytest.mark.parametrize("budget", [None, "1x", "0.75x", "0.6x", "0.5x", "min"])
def test_tanh_gradients_are_equal_in_all_bits_under_every_budget(budget):
    """In all bits where JAX writes the derivative of tanh as we do."""
    loss, args, wanted = concrete("small tanh")
    door = cg.value_and_grad(loss, budget=budget)
    assert_same(jax.jit(door)(*args), wanted, bits=ROUNDED_AS_WE_DO)
    assert_same(door.compile(*args)(*args), wanted, bits=ROUNDED_AS_WE_DO)


@pytest.mark.parametrize("budget", [None, "0.5x", "min"])
def test_transformer_gradients_are_equal_up_to_rounding(budget):
    loss, args, wanted = concrete("small transformer")
    value, gradient = jax.jit(cg.value_and_grad(loss, budget=budget))(*args)
    assert float(value) == pytest.approx(float(wanted[0]), rel=1e-6)
    for f, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted[1]), strict=True):
        assert jnp.abs(f - w).max() <= 1e-5 * jnp.abs(w).max()


@pytest.mark.parametrize("policy", ["store_all", "every_k", "sqrt", "revolve", "rotor", "recompute_all", "optimal"])
def test_every_policy_predicts_the_peak_and_gives_the_same_bits(policy):
    loss, args, wanted = concrete("small tanh")
    certified = cg.value_and_grad(loss, policy=policy).compile(*args)
    assert abs(certified.peak_bytes - certified.plan.peak_bytes) <= KIB * len(certified.plan.costs)
    assert_same(certified(*args), wanted, bits=ROUNDED_AS_WE_DO)
