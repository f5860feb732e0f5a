"""Options that keep codes stand beside the others, and are used where they are better."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import NoDerivativeError
from tests.support.arrays import normal
from tests.support.compare import assert_same

WIDTH, LAYERS = 32, 8
WS = [normal(k, WIDTH, WIDTH, scale=WIDTH**-0.5) for k in range(LAYERS)]
X = normal(9, 256, WIDTH)


def gelu_loss(ws, x):
    for w in ws:
        x = jax.nn.gelu(x @ w)
    return jnp.mean(x**2)


BASE = cg.plan(gelu_loss, WS, X)
BUDGET = int(0.6 * BASE.peak_bytes)


def error_of(found, exact):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


def test_a_gelu_stack_takes_six_tenths_with_an_error_below_a_hundredth():
    certified = cg.value_and_grad(gelu_loss, budget=BUDGET, encodings="int8").compile(WS, X)
    assert certified.plan.encodings == ("int8",)
    assert not certified.plan.is_exact
    assert certified.peak_bytes <= BUDGET
    assert certified.plan.seconds < cg.plan(gelu_loss, WS, X, budget=BUDGET).seconds
    value, gradient = certified(WS, X)
    exact_value, exact = cg.value_and_grad(gelu_loss)(WS, X)
    assert value == exact_value
    assert 0 < error_of(gradient, exact) < 0.01


@pytest.mark.parametrize("encodings", ["bits", ["int8"], ["bfloat16", "float8", "bits"]])
def test_other_options_stay_what_they_were(encodings):
    plain = cg.plan(gelu_loss, WS, X).costs
    coded = cg.plan(gelu_loss, WS, X, encodings=encodings).costs
    for a, b in zip(plain.stages, coded.stages, strict=True):
        assert b.options[: len(a.options)] == a.options
        assert len({option.name for option in b.options}) == len(b.options)


def test_an_exact_plan_says_so_and_gives_the_same_bits():
    plan = cg.plan(gelu_loss, WS, X, encodings="int8", budget=2 * BASE.peak_bytes)
    assert plan.is_exact
    assert plan.encodings == ()
    assert "inexact" not in str(plan)
    assert_same(cg.grad(gelu_loss, encodings="bits")(WS, X), cg.grad(gelu_loss)(WS, X), bits=True)


@pytest.mark.slow
def test_the_plan_says_that_it_is_inexact_and_validate_by_how_much():
    def planned():
        return cg.value_and_grad(gelu_loss, budget=BUDGET, encodings="int8").compile(WS, X).plan

    assert "run cg.validate" in str(planned())
    table = cg.validate(gelu_loss, WS, X, budget=BUDGET, encodings="int8", policies="optimal", meters=(), repeats=1)
    row = table["optimal"]
    assert row.inexact == ("int8",)
    assert "inexact: optimal keeps values as int8; its gradient is off by" in str(table)
    assert planned().to_dict()["found_gradient_error"] == row.gradient.relative
    assert f"by {row.gradient.relative:.1e} of its largest entry, measured" in str(planned())
    with pytest.raises(cg.ValidationError, match="gradient"):
        cg.validate(
            gelu_loss, WS, X, budget=BUDGET, encodings="int8", policies="optimal", meters=(), repeats=1, tolerance=1e-6
        )


def test_arguments_are_never_encoded():
    plan = cg.plan(gelu_loss, WS, X, encodings="int8", budget="min")
    kind = plan.program.stages[3].kind
    weights = {v for k, v in enumerate(kind.joint.inputs) if k not in kind.boundary_in}
    coded = [option for option in kind.options if option.encodings]
    assert len(weights) == 1
    assert coded
    assert all(weights <= {*option.partition.reads} for option in coded)


@pytest.mark.slow
def test_staged_and_batched_gradients_are_those_of_one_program():
    options = {"budget": BUDGET, "encodings": "int8"}
    compiled = cg.value_and_grad(gelu_loss, **options).compile(WS, X)
    assert compiled.plan.encodings
    staged = cg.value_and_grad(gelu_loss, runtime="staged", **options)(WS, X)
    assert error_of(staged[1], compiled(WS, X)[1]) < 0.01
    batched = jax.vmap(cg.grad(gelu_loss, argnums=1, **options), (None, 0))(WS, X[None])
    assert error_of(batched[0], cg.grad(gelu_loss, argnums=1)(WS, X)) < 0.01


@pytest.mark.parametrize("outer", [cg.grad, jax.grad])
def test_a_second_derivative_is_refused_where_it_would_be_wrong(outer):
    inner = cg.grad(gelu_loss, argnums=1, budget=BUDGET, encodings="int8")
    with pytest.raises(NoDerivativeError, match="leave int8 and float8 out"):
        outer(lambda x: jnp.sum(inner(WS, x) ** 2))(X)


@pytest.mark.slow
def test_a_second_derivative_through_bfloat16_is_nearly_the_exact_one():
    def twice(**options):
        inner = cg.grad(gelu_loss, argnums=1, **options)
        return cg.grad(lambda x: jnp.sum(inner(WS, x) ** 2))(X)

    assert error_of(twice(budget=BUDGET, encodings="bfloat16"), twice()) < 0.05


def test_saved_plans_repeat_their_codes():
    plan = cg.plan(gelu_loss, WS, X, budget=BUDGET, encodings="int8")
    again = cg.plan(gelu_loss, WS, X, policy=cg.load_plan(plan.to_json()), encodings="int8")
    assert again.schedule == plan.schedule
    assert again.encodings == ("int8",)
    with pytest.raises(cg.ScheduleError, match="other save options"):
        cg.plan(gelu_loss, WS, X, policy=cg.load_plan(plan.to_json()))


@pytest.mark.parametrize("runtime", ["compiled", "staged"])
def test_a_saved_plan_with_masks_as_bits_is_read_back_without_its_budget(runtime):
    def loss(ws, x):
        for w in ws:
            x = jax.nn.relu(x @ w)
        return jnp.mean(x**2)

    plan = cg.plan(loss, WS, X, budget="0.5x")
    again = cg.grad(loss, policy=cg.load_plan(plan.to_json()), runtime=runtime).compile(WS, X)
    assert again.plan.choices == plan.choices
