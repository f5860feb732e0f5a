"""A gradient that runs stage by stage: equal to the compiled one, within its certificate, with nothing left behind."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad import planner
from ckptgrad.errors import LedgerError, MismatchError, NoDerivativeError, StagedError
from ckptgrad.execution.staged.account import expected_peak
from ckptgrad.planning import Offload
from ckptgrad.planning.makespan import Rates
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.compare import assert_same
from tests.support.rows import quick_rows

WS, X = tanh_arguments(16, 64, layers=5)
STAGED = {"runtime": "staged"}


def skipping(ws, x):
    """What the first layer makes is read by every third one, and returned."""
    first = x = jnp.tanh(x @ ws[0])
    for k, w in enumerate(ws[1:]):
        x = x + jax.nn.gelu(x @ w) + (first if k % 3 == 2 else 0)
    return jnp.mean(x**2), {"first": first, "input": x}


def shared(ws, x):
    """One weight is read by all layers."""
    for w in ws:
        x = jnp.sin(x @ w) + jnp.cos(x @ ws[0])
    return jnp.sum(x)


def held():
    gc.collect()
    return {id(x): x.nbytes for x in jax.live_arrays()}


@pytest.mark.parametrize(
    ("loss", "has_aux", "policy"),
    quick_rows(
        [
            (tanh_loss, False, "sqrt"),
            (shared, False, "recompute_all"),
            (skipping, True, "store_all"),
            (skipping, True, "sqrt"),
        ],
        (skipping, True, "sqrt"),
    ),
)
def test_it_is_the_compiled_gradient_bit_for_bit(loss, has_aux, policy):
    options = {"argnums": (0, 1), "has_aux": has_aux, "policy": policy}
    staged = cg.value_and_grad(loss, **options, **STAGED)
    compiled = cg.value_and_grad(loss, **options).compile(WS, X)(WS, X)
    assert_same(staged.compile(WS, X)(WS, X)[1], compiled[1], bits=True)
    assert_same(staged(WS, X), jax.value_and_grad(loss, (0, 1), has_aux)(WS, X), scale=10)


@pytest.mark.parametrize(
    ("fun", "args"),
    [
        pytest.param(lambda w, x: jnp.sum(w * x), (jnp.ones(3), jnp.arange(3.0)), id="the gradient is an argument"),
        pytest.param(lambda w, x: w + 0 * x[0], (2.0, jnp.ones(2)), id="the gradient is the seed"),
        pytest.param(lambda w, x: jnp.sum(x), (jnp.ones(3), jnp.ones(3)), id="nothing flows back"),
        pytest.param(lambda w, x: 1.0, (jnp.ones(3), jnp.ones(3)), id="a constant"),
        pytest.param(lambda w, n: jnp.sum(w[n]), (jnp.ones((4, 4)), jnp.array([1, 2])), id="integers"),
        pytest.param(lambda w, x: jnp.sum(jnp.tanh(w @ x)), (jnp.ones((3, 4), jnp.bfloat16), jnp.ones(4)), id="bfloat16"),
        pytest.param(lambda w, k: jnp.sum(w * jax.random.normal(k, w.shape)), (jnp.ones(4), jax.random.key(0)), id="keys"),
    ],
)
def test_odd_functions(fun, args):
    expected = jax.value_and_grad(fun)(*args)
    value, found = cg.value_and_grad(fun, **STAGED)(*args)
    assert_same(found, expected[1])
    assert np.asarray(value) == np.asarray(expected[0])


def test_arguments_stay_and_results_are_buffers_of_their_own():
    w, x = jnp.ones(1000), jnp.arange(1000.0)
    gradient = cg.grad(lambda w, x: (jnp.sum(w * x), (x, w, x)), has_aux=True, **STAGED)(w, x)
    arrays = [w, x, *jax.tree.leaves(gradient)]
    places = [a.unsafe_buffer_pointer() for a in arrays]
    assert len({*places}) == len(arrays)


@pytest.mark.parametrize("budget", quick_rows([None, "0.6x", "min"], "min"))
def test_no_more_is_held_at_any_step_than_is_certified(budget):
    ws, x = tanh_arguments(32, 512, layers=3)
    before, seen = held(), []
    gradient = cg.value_and_grad(
        tanh_loss, budget=budget, progress=lambda done, count: seen.append(held()), **STAGED
    ).compile(ws, x)
    result = gradient(ws, x)
    account = gradient.executable.account
    assert len(seen) == len(account)
    for arrays, moment in zip(seen, account, strict=True):
        stored = sum(n for key, n in arrays.items() if key not in before)
        # A token of a byte for each of those under way.
        assert stored <= moment.held + moment.taken - moment.given_back + len(account)
    assert gradient.peak_bytes == max(moment.total for moment in account)
    assert gradient.budget is None or gradient.peak_bytes <= gradient.budget
    assert sum(x.nbytes for x in jax.tree.leaves(result)) == gradient.memory.output_bytes


def dropping(ws, x, key=None):
    """Masks from a key that each layer splits, which stays on the device while boundaries are sent."""
    key = jax.random.key(0) if key is None else key
    for w in ws:
        key, own = jax.random.split(key)
        x = jnp.tanh(x @ w) * jax.random.bernoulli(own, 0.9, x.shape)
    return jnp.mean(x**2)


def over_loops(ws, x):
    stack = jnp.stack(ws[:4])
    for w in ws:
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)
        x = jnp.sin(x @ w)
    return jnp.mean(x**2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "budget"),
    [(tanh_loss, "0.5x"), (tanh_loss, "0.4x"), (shared, "0.3x"), (dropping, "0.4x"), (over_loops, "0.3x")],
)
def test_what_is_on_its_way_to_a_tier_is_planned_for_and_held_to(loss, budget, monkeypatch):
    """A tier of great speed, so that boundaries are sent rather than made again."""
    monkeypatch.setattr(planner, "known_rates", lambda tier, device: Rates(1e15, 1e15))
    ws, x = tanh_arguments(16, 512, layers=12)
    before, seen = held(), []
    options = {"budget": budget, "tiers": ["host:1GiB"], "progress": lambda *_: seen.append(held()), **STAGED}
    gradient = cg.value_and_grad(loss, **options).compile(ws, x)
    plan = gradient.plan
    assert any(isinstance(action, Offload) for action in plan.schedule)
    assert gradient.peak_bytes <= gradient.budget
    on_paper = expected_peak(plan.program, plan.schedule, plan.simulation.timeline) + plan.moving_bytes
    assert gradient.peak_bytes == pytest.approx(on_paper, rel=0.05)
    assert gradient.peak_bytes <= 1.05 * plan.peak_bytes
    assert_same(gradient(ws, x), jax.value_and_grad(loss)(ws, x), scale=10)
    for arrays in seen:
        assert sum(n for key, n in arrays.items() if key not in before) <= gradient.peak_bytes + len(seen)


def test_a_budget_below_the_smallest_plan_is_refused_with_bytes_that_are_enough():
    with pytest.raises(cg.BudgetError) as refused:
        cg.value_and_grad(tanh_loss, budget=100, **STAGED).compile(WS, X)
    smallest = refused.value.smallest
    assert cg.value_and_grad(tanh_loss, budget=smallest, **STAGED).compile(WS, X).peak_bytes <= smallest


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_interrupted_leaves_nothing_behind(error):
    def interrupt(done, count):
        if done == count // 2:
            raise error

    gradient = cg.value_and_grad(tanh_loss, progress=interrupt, **STAGED).compile(WS, X)
    before = held()
    with pytest.raises(error) as caught:
        gradient(WS, X)
    assert held().keys() == before.keys()
    assert caught.value is not None


def test_what_runs_ahead_waits_for_room(monkeypatch):
    """With less room than is certified it stops, rather than hold more."""
    gradient = cg.value_and_grad(tanh_loss, **STAGED).compile(WS, X)
    assert_same(gradient(WS, X), gradient(WS, X), bits=True)
    monkeypatch.setattr(type(gradient.executable), "peak_bytes", gradient.peak_bytes - 1)
    with pytest.raises(LedgerError, match="are held, and"):
        gradient(WS, X)


@pytest.mark.parametrize(
    "transformed",
    [
        pytest.param(lambda f: jax.jit(f)(WS, X), id="jit"),
        pytest.param(lambda f: jax.vmap(f, (None, 0))(WS, X[None]), id="vmap"),
        pytest.param(
            lambda f: jax.jit(lambda scale: cg.grad(lambda w: tanh_loss(w, X * scale), **STAGED)(WS))(1.0), id="captured"
        ),
        pytest.param(lambda f: jax.jit(f.compile(WS, X))(WS, X), id="compiled before"),
    ],
)
def test_inside_a_transformation_it_says_what_to_do(transformed):
    with pytest.raises(StagedError, match="runtime='compiled'"):
        transformed(cg.grad(tanh_loss, **STAGED))


def test_a_rule_that_reads_what_was_traced_outside_of_it_is_named():
    def loss(x):
        factors = jnp.arange(4.0)

        @jax.custom_jvp
        def scaled(x):
            return x * factors

        scaled.defjvp(lambda primals, tangents: (primals[0] * factors, tangents[0] * factors))
        return jnp.sum(scaled(x))

    with pytest.raises(NoDerivativeError, match="rule closes over a value"):
        cg.grad(loss, **STAGED)(jnp.ones(4))


def test_other_arguments_than_it_was_compiled_for_are_refused():
    gradient = cg.grad(tanh_loss, **STAGED).compile(WS, X)
    with pytest.raises(MismatchError, match=r"x is .*; this gradient was compiled for"):
        gradient(WS, X[:3])
    with pytest.raises(MismatchError, match=r"x is .*; this gradient was compiled for"):
        gradient(WS, X.astype(jnp.bfloat16))
    with pytest.raises(MismatchError, match="structure"):
        gradient(WS[1:], X)


def test_errors_of_a_stage_reach_the_caller():
    def fails(x):
        raise ValueError("the sensor is gone")

    def loss(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jnp.sum(jnp.tanh(x) * jax.lax.stop_gradient(jax.pure_callback(fails, like, jax.lax.stop_gradient(x))))

    with pytest.raises(Exception, match="the sensor is gone"):
        cg.grad(loss, **STAGED)(jnp.ones(4))


def test_captured_numpy_arrays_stay_what_they_were_when_it_was_compiled():
    factors = np.linspace(1.0, 2.0, 4, dtype=np.float32)

    def loss(x):
        return jnp.sum(jnp.tanh(x) * factors)

    x = jnp.ones(4)
    expected, gradient = jax.grad(loss)(x), cg.grad(loss, **STAGED).compile(x)
    factors *= 3
    assert_same(gradient(x), expected)
    assert_same(cg.grad(loss, **STAGED)(x), 3 * expected)


def test_it_runs_where_nothing_is_jitted():
    x = jnp.ones(4)
    gradient = cg.grad(lambda x: jnp.sum(jnp.tanh(x)), **STAGED).compile(x)
    with jax.disable_jit():
        assert_same(gradient(x), 1 - jnp.tanh(x) ** 2, scale=10)


def test_equal_gradients_have_equal_text():
    texts = [
        cg.grad(tanh_loss, policy=p, **STAGED).compile(WS, X).executable.as_text() for p in ("sqrt", "sqrt", "store_all")
    ]
    assert texts[0] == texts[1] != texts[2]


def test_it_does_not_keep_the_arrays_that_it_was_compiled_with():
    x = jnp.ones((64, 16)) * 2
    gradient = cg.grad(tanh_loss, **STAGED).compile(WS, x)
    key = id(x)
    del x
    assert key not in held()
    assert gradient.peak_bytes
