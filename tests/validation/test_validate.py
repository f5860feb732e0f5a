"""The cross-check passes where it should, and fails loudly where it should."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import unregister
from ckptgrad.errors import BudgetError, GradientTypeError, OptionError, ValidationError
from ckptgrad.validation import reference_memory, validate
from tests.cases.tanh import tanh_loss
from tests.support.arrays import normal
from tests.support.targets import compile_only

DEPTH, WIDTH, BATCH = 8, 16, 256


@pytest.fixture(scope="module")
def args():
    return [normal(1 + k, WIDTH, WIDTH, scale=0.1) for k in range(DEPTH)], normal(0, BATCH, WIDTH)


@pytest.fixture(scope="module")
def table(args):
    return validate(tanh_loss, *args, budget="0.5x", repeats=1, meters=())


def test_rows_are_references_and_policies(table):
    assert [row.name for row in table.rows] == ["jax.grad", "jax.checkpoint", "optimal", "sqrt", "revolve"]


def test_gradients_agree_and_budget_holds(table):
    assert table.passed
    for row in table.rows[2:]:
        assert not row.feasible or row.certified.bytes <= table.budget
    assert table["jax.grad"].gradient.bitwise
    assert table["jax.grad"].time_ratio == 1.0


def test_without_budget_only_the_optimal_policy(args):
    found = validate(tanh_loss, *args, repeats=1, meters=())
    assert [row.name for row in found.rows] == ["jax.grad", "jax.checkpoint", "optimal"]
    assert found.budget is None
    assert "no budget" in str(found)


def test_the_least_budget_is_called_so(args):
    found = validate(tanh_loss, *args, budget="min", policies=["optimal"], repeats=1, meters=())
    assert found.budget is None
    assert "budget min; time relative to jax.grad, median of 1 round\n" in str(found)


def test_what_runs_stage_by_stage_is_compared_too(args, tmp_path):
    """By its own certificate, with the tiers that it needs to keep the budget."""
    options = {"budget": "0.3x", "policies": ["recompute_all"], "repeats": 1, "meters": (), "chunks": False}
    with pytest.raises(BudgetError):
        validate(tanh_loss, *args, runtime="staged", **options)
    found = validate(tanh_loss, *args, runtime="staged", tiers=[f"disk:{tmp_path}:1GiB"], **options)
    row = found.rows[-1]
    assert found.passed
    assert row.certified.bytes <= found.budget
    assert row.seconds > 0
    assert not [*tmp_path.iterdir()]


def test_dict_is_json(table):
    found = json.loads(json.dumps(table.to_dict()))
    assert found["passed"] is True
    assert found["budget_bytes"] == table.budget
    assert [row["name"] for row in found["rows"]] == [row.name for row in table.rows]
    assert found["rows"][2]["readings"]["xla"]["bytes"] == table["optimal"].certified.bytes


def test_text_names_every_row(table):
    text = str(table)
    for row in table.rows:
        assert row.name in text
    assert "passed" in text


def test_policy_that_cannot_meet_the_budget_has_a_row_that_says_so(args):
    least = cg.plan(tanh_loss, *args, budget="min").peak_bytes
    table = validate(tanh_loss, *args, budget=2 * least, policies=["optimal", "store_all"], repeats=1, meters=())
    assert not table["store_all"].feasible
    assert table["store_all"].smallest_peak_bytes > table.budget
    assert "cannot meet the budget" in str(table)


def test_no_policy_that_meets_the_budget_is_an_error(args):
    with pytest.raises(BudgetError, match="smallest feasible peak"):
        validate(tanh_loss, *args, budget=100, policies=["optimal"])


def test_schedule_as_policy(args):
    schedule = cg.plan(tanh_loss, *args, budget="0.5x").schedule
    table = validate(tanh_loss, *args, policies=[schedule], repeats=1, meters=())
    assert table.rows[-1].name == "optimal"


def test_argnums_aux_keywords_integers_and_keys():
    def f(w, n, key, *, scale):
        noise = jax.random.normal(key, w.shape)
        value = jnp.sum(jnp.sin(w * n + noise)) * scale
        return value, {"noise": noise}

    table = validate(f, jnp.ones(8), 3, jax.random.key(1), scale=2.0, argnums=(0, 1), has_aux=True, repeats=1, meters=())
    assert table.passed


def test_partial_keeps_its_name(args):
    found = validate(functools.partial(tanh_loss, x=args[1]), args[0], repeats=1, meters=())
    assert found.function == "tanh_loss"


FACTOR = 1.001

doubled = Primitive("validate_test_doubled")
doubled.def_impl(lambda x: 2.0 * x)
doubled.def_abstract_eval(lambda x: x)
ad.deflinear2(doubled, lambda ct, x: [2.0 * ct])
mlir.register_lowering(doubled, mlir.lower_fun(lambda x: 2.0 * x, multiple_results=False))


@pytest.fixture
def wrong_rule():
    """A rule whose result is off by FACTOR."""
    cg.bprop_rule(doubled.name)(lambda op, ct: (2.0 * FACTOR * ct,))
    yield
    unregister(doubled.name)


def test_wrong_gradient_fails_loudly(wrong_rule):
    with pytest.raises(ValidationError, match=r"optimal: the gradient.*differs") as caught:
        validate(lambda x: jnp.sum(doubled.bind(x)), jnp.ones(4), repeats=1, meters=())
    table = caught.value.validation
    assert not table.passed
    assert table["jax.checkpoint"].gradient.relative == 0
    assert table["optimal"].gradient.relative == pytest.approx(FACTOR - 1, rel=0.01)
    assert "FAILED" in str(table)


def test_wider_tolerance_can_be_asked_for(wrong_rule):
    table = validate(lambda x: jnp.sum(doubled.bind(x)), jnp.ones(4), repeats=1, meters=(), tolerance=2 * (FACTOR - 1))
    assert table.passed


@pytest.mark.parametrize("options", [{"repeats": 0}, {"policies": []}, {"repeats": 1.5}])
def test_bad_options(options, args):
    with pytest.raises(OptionError):
        validate(tanh_loss, *args, **options)


def test_function_without_scalar_output(args):
    with pytest.raises(GradientTypeError, match="scalar"):
        validate(lambda x: x, args[1])


def test_reference_memory_is_that_of_the_grad_row(args, table):
    memory = reference_memory(tanh_loss, *args)
    assert memory.peak_bytes == table["jax.grad"].certified.bytes
    assert memory.temporary_bytes == table["jax.grad"].certified_temporary_bytes


def test_for_a_target_that_is_not_attached_bytes_are_compared_and_nothing_runs():
    compile_only("h100")
    args = [jax.ShapeDtypeStruct((128, 128), jnp.float32)] * 3, jax.ShapeDtypeStruct((4096, 128), jnp.float32)
    table = validate(deep, *args, target="h100", budget="0.7x", policies=["optimal", "store_all"])
    assert [row.name for row in table.rows] == ["jax.grad", "jax.checkpoint", "optimal", "store_all"]
    assert table["optimal"].certified.bytes <= table.budget < table["jax.grad"].certified.bytes
    assert not table["store_all"].feasible
    assert all(row.time_ratio is None and row.gradient is None for row in table.rows)
    assert "NVIDIA H100" in str(table)
    assert "certified: peaks are within the budget; nothing was run, so no gradient was compared" in str(table)
    assert "cannot meet the budget, needs" in str(table)
    with pytest.raises(OptionError, match="locate"):
        validate(deep, *args, target="h100", locate=True)


def deep(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()
