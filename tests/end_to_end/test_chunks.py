"""Stages over chunks of an axis, as users see them: below the peak of a stage, with the same gradients."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import ckptgrad as cg
from tests.support.devices import on_four_devices
from tests.support.rows import quick_rows

WIDTH, HIDDEN, BATCH = 32, 512, 64
WS = [np.random.default_rng(k).normal(size=(WIDTH, HIDDEN)).astype("float32") / 8 for k in range(3)]
X = np.random.default_rng(9).normal(size=(BATCH, WIDTH)).astype("float32")


def mlp(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w) @ w.T
    return jnp.mean(x**2)


def assert_near(found, expected, error):
    """To an error as a share of the largest entry: sums over chunks are added in another order."""
    assert np.max(np.abs(found - expected)) <= error * np.max(np.abs(expected))


@pytest.fixture(scope="module")
def smallest():
    """The smallest certified plans, with stages whole and over chunks."""
    return [cg.value_and_grad(mlp, budget="min", chunks=chunks).compile(WS, X) for chunks in (False, True)]


def test_the_smallest_plan_is_below_the_peak_of_a_stage(smallest):
    whole, chunked = smallest
    assert chunked.temporary_bytes < 0.75 * whole.temporary_bytes
    assert any("chunks of" in choice for choice in chunked.plan.choices)
    assert "chunks of" in str(chunked.plan)


def test_gradients_are_those_of_stages_that_run_whole(smallest):
    whole, chunked = (certified(WS, X) for certified in smallest)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        assert_near(b, a, 5e-6)


@pytest.mark.slow
def test_they_are_the_same_in_double_precision(x64):
    ws, x = [w.astype("float64") for w in WS], X.astype("float64")
    found = jax.jit(cg.grad(mlp, budget="min", chunks=True))(ws, x)
    for a, b in zip(jax.grad(mlp)(ws, x), found, strict=True):
        assert_near(b, a, 1e-14)


def test_no_budget_chunks_nothing():
    assert not cg.plan(mlp, WS, X, chunks=True).program.chunked
    assert not cg.plan(mlp, WS, X, budget="2x", chunks=True).program.chunked


LARGE = np.random.default_rng(9).normal(size=(16 * BATCH, WIDTH)).astype("float32")


def test_a_budget_is_enough_to_have_chunks():
    whole, chunked = (
        cg.value_and_grad(mlp, budget="min", **options).compile(WS, LARGE) for options in ({"chunks": False}, {})
    )
    assert not whole.plan.program.chunked
    assert any("chunks of" in choice for choice in chunked.plan.choices)
    assert chunked.temporary_bytes < 0.5 * whole.temporary_bytes
    assert abs(chunked.peak_bytes - chunked.plan.peak_bytes) < 0.1 * chunked.peak_bytes
    for a, b in zip(jax.tree.leaves(whole(WS, LARGE)), jax.tree.leaves(chunked(WS, LARGE)), strict=True):
        assert_near(b, a, 1e-5)


def test_a_saved_plan_over_chunks_is_read_back(smallest):
    plan = smallest[1].plan
    again = cg.plan(mlp, WS, X, policy=cg.load_plan(plan.to_json()))
    assert again.schedule.actions == plan.schedule.actions
    assert again.choices == plan.choices


@pytest.mark.slow
def test_a_saved_plan_over_chunks_compiles_again(smallest):
    plan = smallest[1].plan
    certified = cg.value_and_grad(mlp, policy=plan.schedule).compile(WS, X)
    assert certified.plan.choices == plan.choices
    with pytest.raises(cg.ScheduleError):
        cg.value_and_grad(mlp, policy=replace(plan.schedule, actions=plan.schedule.actions[1:])).compile(WS, X)


@pytest.mark.parametrize("runtime", ["compiled", "staged"])
def test_a_plan_over_chunks_that_was_written_down_compiles_again(smallest, runtime):
    plan = smallest[1].plan
    again = cg.value_and_grad(mlp, policy=cg.load_plan(plan.to_json()), runtime=runtime).compile(WS, X)
    assert again.plan.choices == plan.choices
    for a, b in zip(jax.tree.leaves(smallest[0](WS, X)), jax.tree.leaves(again(WS, X)), strict=True):
        assert_near(b, a, 5e-6)


def head(w, x, y):
    """A loss over many words, and the losses of the words."""
    logits = x @ w.T
    each = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, y[:, None], -1)[:, 0]
    return jnp.mean(each), each


@pytest.mark.parametrize("costs", quick_rows(["auto", "compile"], "auto"))
def test_the_last_stage_makes_results_and_gradients_in_one_pass(costs):
    w, x, y = WS[0].T, X, np.arange(BATCH)
    door = cg.value_and_grad(head, (0, 1), has_aux=True, budget="min", costs=costs, chunks=True)
    certified = door.compile(w, x, y)
    assert "in one pass" in certified.plan.choices[0]
    assert certified.temporary_bytes < BATCH * HIDDEN * 4  # the logits
    expected, found = jax.value_and_grad(head, (0, 1), has_aux=True)(w, x, y), certified(w, x, y)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert_near(b, a, 5e-6)


@pytest.mark.slow
def test_a_step_that_is_fitted_may_run_stages_over_chunks():
    def step(ws, x, chunks=False):
        return cg.value_and_grad(mlp, budget="fit", chunks=chunks)(ws, x)

    with pytest.raises(cg.StepMemoryError) as caught:
        cg.fit(step, WS, X, memory="1KiB")
    memory = int(0.9 * caught.value.smallest)
    fitted = cg.fit(partial(step, chunks=True), WS, X, memory=memory)
    assert fitted.peak_bytes <= memory
    assert fitted.plan.parts[0].program.chunked
    for a, b in zip(jax.tree.leaves(step_by_jax(WS, X)), jax.tree.leaves(fitted(WS, X)), strict=True):
        assert_near(b, a, 5e-6)


def step_by_jax(ws, x):
    return jax.value_and_grad(mlp)(ws, x)


@pytest.mark.slow
def test_a_step_that_is_fitted_needs_no_word_of_chunks():
    def step(ws, x):
        return cg.value_and_grad(mlp, budget="fit")(ws, x)

    roomy = cg.fit(step, WS, LARGE, memory=None)
    assert not roomy.plan.program.chunked
    fitted = cg.fit(step, WS, LARGE, memory=roomy.peak_bytes // 2)
    assert fitted.plan.program.chunked


def second(gradient):
    """Through a function of the gradient."""
    return lambda ws: sum(jnp.sum(jnp.sin(g)) for g in gradient(ws, X.astype("float64")))


WAYS = {
    "vmap": lambda gradient, ws, xs: jax.vmap(gradient, (None, 0))(ws, xs),
    "jvp": lambda gradient, ws, xs: jax.jvp(lambda ws: gradient(ws, xs[0]), (ws,), (ws,)),
    "grad": lambda gradient, ws, xs: jax.grad(second(gradient))(ws),
    "a gradient of ours": lambda gradient, ws, xs: cg.grad(second(gradient))(ws),
    "scan": lambda gradient, ws, xs: jax.lax.scan(
        lambda ws, x: ([w - 0.1 * g for w, g in zip(ws, gradient(ws, x), strict=True)], 0.0), ws, xs
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_is_transformed_runs_over_chunks_too(x64, way):
    ws, xs = [w.astype("float64") for w in WS[:2]], np.stack([X, 2 * X, X - 1]).astype("float64")
    gradient = cg.grad(mlp, budget="min", costs="estimate", chunks=True)
    found, expected = (WAYS[way](g, ws, xs) for g in (gradient, jax.grad(mlp)))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert_near(b, a, 1e-12)


def test_codes_are_offered_beside_chunks():
    plan = cg.plan(mlp, WS, X, budget="min", costs="estimate", chunks=True, encodings="int8")
    options = [option for kind in plan.program.kinds for option in kind.options]
    assert any(option.encodings for option in options)
    assert any("chunks of" in option.name for option in options)
    assert not any(option.encodings and "chunks of" in option.name for option in options)


@pytest.mark.slow
def test_on_several_devices_stages_run_whole():
    on_four_devices(__name__, "check_whole_on_several_devices()")


def check_whole_on_several_devices():
    mesh = jax.make_mesh((4,), ("data",))
    x = jax.device_put(LARGE, NamedSharding(mesh, PartitionSpec("data")))
    assert not cg.plan(mlp, WS, x, budget="min", costs="estimate").program.chunked
    lies = {"mesh": mesh, "in_specs": (PartitionSpec(), PartitionSpec("data")), "out_specs": PartitionSpec()}
    shared = jax.shard_map(lambda ws, x: jax.lax.pmean(mlp(ws, x), "data"), **lies)
    assert not cg.plan(shared, WS, x, budget="min", costs="estimate").program.chunked


@pytest.mark.parametrize("options", [{}, {"tiers": ["host"]}, {"budget": "0.3x"}], ids=str)
def test_stages_over_chunks_run_one_by_one_too(options):
    whole = cg.grad(mlp, budget="min", runtime="staged", chunks=False).compile(WS, LARGE)
    chunked = cg.grad(mlp, runtime="staged", **{"budget": "min", **options}).compile(WS, LARGE)
    assert any("chunks of" in choice for choice in chunked.plan.choices)
    assert chunked.peak_bytes < 0.6 * whole.peak_bytes
    for a, b in zip(jax.grad(mlp)(WS, LARGE), chunked(WS, LARGE), strict=True):
        assert_near(b, a, 1e-5)


@pytest.mark.parametrize("runtime", ["compiled", "staged"])
def test_no_runtime_has_chunks_that_were_not_asked_for(runtime):
    assert not cg.value_and_grad(mlp, budget="min", runtime=runtime, chunks=False).plan(WS, LARGE).program.chunked
    small = cg.value_and_grad(mlp, budget="min", runtime=runtime, costs="estimate")
    assert not small.plan(WS, X).program.chunked
    assert cg.value_and_grad(mlp, budget="min", runtime=runtime, chunks=True).plan(WS, X).program.chunked
