"""A whole step within a device's memory: certified, fastest first, refused with what takes how much."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.cases.steps import BOUNDARY, DEPTH, LAYER, WS, X, arguments, loss, plain_step, step
from tests.support.compare import assert_same

STATE = [jnp.zeros_like(w) for w in WS]
HELD = 2 * DEPTH * LAYER + X.nbytes  # parameters, state and batch


@pytest.fixture(scope="module")
def fastest():
    return cg.fit(step, WS, STATE, X, memory=None, donate_argnums=(0, 1))


def test_the_certificate_is_what_xla_says_of_the_step_that_runs(fastest):
    memory = compiled_memory(fastest.executable)
    assert fastest.certificate.memory == memory
    assert memory.argument_bytes == HELD
    assert fastest.peak_bytes == HELD + memory.temporary_bytes + memory.output_bytes - memory.alias_bytes
    assert memory.alias_bytes == 2 * DEPTH * LAYER


def test_a_step_keeps_its_memory_and_equals_the_step_without(fastest):
    memory = fastest.peak_bytes - 2 * BOUNDARY
    fitted = cg.fit(step, WS, STATE, X, memory=memory, donate_argnums=(0, 1))
    assert fitted.peak_bytes <= memory < fastest.peak_bytes
    assert fitted.plan.simulation.recomputations > 0
    assert fitted.plan.seconds > fastest.plan.seconds
    assert_same(fitted(*arguments()), jax.jit(plain_step)(WS, STATE, X), scale=4)


@pytest.mark.slow
def test_a_larger_memory_is_never_slower(fastest):
    seconds = []
    for part in (1.0, 0.85, 0.7):
        fitted = cg.fit(step, WS, STATE, X, memory=int(part * fastest.peak_bytes), donate_argnums=(0, 1))
        assert fitted.peak_bytes <= part * fastest.peak_bytes
        seconds.append(fitted.plan.seconds)
    assert seconds == sorted(seconds)
    assert seconds[0] == fastest.plan.seconds


@pytest.mark.slow
def test_a_step_that_does_not_fit_says_what_takes_how_much(fastest):
    with pytest.raises(cg.StepMemoryError, match=r"step .* takes at least .* ws 64.0 KiB, speed 64.0 KiB, x 256.0 KiB") as e:
        cg.fit(step, WS, STATE, X, memory=HELD, donate_argnums=(0, 1))
    assert isinstance(e.value, cg.BudgetError)
    assert e.value.budget == HELD
    assert HELD < e.value.smallest < fastest.peak_bytes
    assert "a smaller batch" in str(e.value)
    assert "donate" not in str(e.value)
    assert cg.fit(step, WS, STATE, X, memory=e.value.smallest, donate_argnums=(0, 1)).peak_bytes <= e.value.smallest


def test_a_step_that_does_not_fit_names_what_could_be_donated():
    with pytest.raises(cg.StepMemoryError, match=r"donate ws, speed .* up to 128.0 KiB less"):
        cg.fit(step, WS, STATE, X, memory="200KiB")


@pytest.mark.slow
def test_several_gradients_share_one_number_of_bytes():
    def alternating(ws, x):
        first, down = cg.value_and_grad(loss, budget="fit")(ws, x)
        ws = jax.tree.map(lambda w, g: w - 0.1 * g, ws, down)
        return ws, first, cg.grad(lambda x: loss(ws, x), budget="fit")(x)

    free = cg.fit(alternating, WS, X, memory=None)
    fitted = cg.fit(alternating, WS, X, memory=free.peak_bytes - 2 * BOUNDARY)
    assert fitted.peak_bytes <= free.peak_bytes - 2 * BOUNDARY
    assert [plan.simulation.recomputations > 0 for plan in fitted.plans] == [True, True]
    with pytest.raises(cg.OptionError, match="2 planned calls"):
        fitted.plan  # noqa: B018
    ws = jax.tree.map(lambda w, g: w - 0.1 * g, WS, jax.grad(loss)(WS, X))
    assert_same(fitted(WS, X), (ws, loss(WS, X), jax.grad(loss, 1)(ws, X)), scale=16)


@pytest.mark.parametrize(
    "gradient",
    [
        pytest.param(
            lambda ws, x: cg.vjp(lambda ws: loss(ws, x), ws, budget="fit")[1](1.0)[0], id="vjp", marks=pytest.mark.slow
        ),
        pytest.param(
            lambda ws, x: jax.grad(cg.checkpoint(loss, budget="fit"))(ws, x), id="checkpoint", marks=pytest.mark.slow
        ),
        pytest.param(lambda ws, x: jax.jit(cg.grad(loss, budget="fit"))(ws, x), id="inside a jit"),
        pytest.param(
            lambda ws, x: jax.lax.scan(lambda ws, _: (cg.grad(loss, budget="fit")(ws, x), None), ws, length=1)[0],
            id="inside a loop",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_doors_take_what_is_left(gradient):
    free = cg.fit(gradient, WS, X, memory=None)
    fitted = cg.fit(gradient, WS, X, memory=free.peak_bytes - 2 * BOUNDARY)
    assert fitted.peak_bytes <= free.peak_bytes - 2 * BOUNDARY
    assert fitted.plan.simulation.recomputations > free.plan.simulation.recomputations
    assert_same(fitted(WS, X), jax.grad(loss)(WS, X), scale=16)


def test_a_jitted_gradient_is_not_used_outside_the_step():
    gradient = jax.jit(cg.grad(loss, budget="fit"))
    cg.fit(lambda ws, x: gradient(ws, x), WS, X, memory=None)
    with pytest.raises(cg.OptionError, match=r"ckptgrad\.fit\(step"):
        gradient(WS, X)


def test_a_step_without_planned_gradients_is_certified():
    whole = cg.fit(plain_step, WS, STATE, X, memory="64MiB")
    assert whole.plans == ()
    with pytest.raises(cg.StepMemoryError, match="budget='fit'"):
        cg.fit(plain_step, WS, STATE, X, memory=whole.peak_bytes - 1)


def test_a_function_that_is_jitted_keeps_its_donation(fastest):
    jitted = jax.jit(step, donate_argnums=(0, 1))
    assert cg.fit(jitted, WS, STATE, X, memory=None).peak_bytes == fastest.peak_bytes
    with pytest.raises(cg.OptionError, match="jitted already"):
        cg.fit(jitted, WS, STATE, X, memory=None, donate_argnums=0)


def test_a_function_that_is_jitted_keeps_its_static_arguments(fastest):
    jitted = jax.jit(lambda ws, state, x, times: step(ws, state, x * times), static_argnums=3, donate_argnums=(0, 1))
    fitted = cg.fit(jitted, WS, STATE, X, 1, memory=None)
    assert fitted.peak_bytes == fastest.peak_bytes
    assert len(fitted.plans) == 1


@pytest.mark.parametrize("memory", ["min", "0.5x", "fit"])
def test_memory_is_a_number_of_bytes(memory):
    with pytest.raises(cg.OptionError, match="must be bytes of a device"):
        cg.fit(step, WS, STATE, X, memory=memory)


@pytest.mark.parametrize("memory", ["lots", 0, -1, True])
def test_malformed_memory_is_refused(memory):
    with pytest.raises(cg.BudgetFormatError):
        cg.fit(step, WS, STATE, X, memory=memory)


def test_the_memory_of_the_device_is_the_default():
    assert cg.fit(step, WS, STATE, X).certificate.limit > X.nbytes


def test_errors_of_the_step_surface():
    def broken(ws, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cg.fit(broken, WS, X)


def test_a_step_that_changes_from_trace_to_trace_is_refused():
    calls = []

    def changing(ws, x):
        calls.append(None)
        return [cg.grad(loss, budget="fit")(ws, x) for _ in calls]

    with pytest.raises(cg.ScheduleError, match=r"changing .* changes from trace to trace"):
        cg.fit(changing, WS, X, memory=None)


def test_other_shapes_and_static_values_are_refused():
    def scaled(ws, x, times):
        return jax.tree.map(lambda g: times * g, cg.grad(loss, budget="fit")(ws, x))

    fitted = cg.fit(scaled, WS, X, 2, memory=None, static_argnums=2)
    assert_same(fitted(WS, X, 2), jax.tree.map(lambda g: 2 * g, jax.grad(loss)(WS, X)), scale=16)
    with pytest.raises(cg.StaticArgumentError, match=r"this step scaled .* times = 2"):
        fitted(WS, X, 3)
    with pytest.raises(TypeError, match="compiled"):
        fitted(WS, X[:10], 2)


def test_gradients_that_leave_it_open_are_planned_as_the_step_is_asked_to():
    """One is, the other names its policy itself."""

    def twice(ws, x):
        first = cg.grad(loss, budget="fit")(ws, x)
        second = cg.grad(loss, budget="fit", policy="uniform")(first, x)
        return [a + b for a, b in zip(first, second, strict=True)]

    fitted = cg.fit(twice, WS, X, memory=None, policy="recompute_all", saveable="dots_saveable", costs="estimate")
    assert [plan.schedule.policy for plan in fitted.plans] == ["recompute_all", "uniform"]
    expected = jax.grad(loss)(WS, X)
    assert_same(fitted(WS, X), [a + b for a, b in zip(expected, jax.grad(loss)(expected, X), strict=True)], scale=4)
    with pytest.raises(cg.OptionError, match="costs='guess' is unknown"):
        cg.fit(twice, WS, X, costs="guess")
