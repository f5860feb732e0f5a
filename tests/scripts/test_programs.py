"""The jitted functions of a script are what they were, and what they compile with planned gradients inside is certified."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import ckptgrad as cg
from ckptgrad.bytes import format_bytes
from ckptgrad.results.script_run import GradientCall
from ckptgrad.scripts.planned import Enough, PlannedGradients
from ckptgrad.scripts.programs import ScriptProgram, seen_whole
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import assert_same

W, X = jnp.eye(16) / 2, jnp.linspace(-1, 1, 64).reshape(4, 16)


def make_step(value_and_grad):
    def step(w, x, scale):
        value, gradient = value_and_grad(lambda w: jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2))(w)
        return w - scale * gradient, value

    return step


OPTIONS = {"donate_argnums": 0, "static_argnames": "scale"}


def test_a_program_is_certified_as_xla_allocates_it():
    alike = jax.jit(make_step(functools.partial(cg.value_and_grad, budget="4KiB")), **OPTIONS)
    expected = compiled_memory(alike.lower(W, X, scale=0.1).compile()).peak_bytes
    planned = PlannedGradients({"budget": "4KiB"})
    with planned.in_place():
        step = jax.jit(make_step(lambda f: jax.value_and_grad(f)), **OPTIONS)
        w, values = jnp.copy(W), []
        for _ in range(2):
            w, value = step(w, X, scale=0.1)
            values.append(value)
    wanted, w = jax.jit(make_step(jax.value_and_grad), static_argnames="scale"), W
    for value in values:
        w, again = wanted(w, X, scale=0.1)
        assert_same(value, again, scale=8)
    (call,) = planned.calls
    assert (call.program, call.certified_bytes, call.times) == ("step", expected, 1)


@pytest.mark.parametrize(("kind", "together"), [("Auto", 8), ("Explicit", 1)])
def test_predictions_are_of_all_devices_together_where_types_do_not_say_how_values_lie(kind, together):
    lies = NamedSharding(AbstractMesh((8,), ("data",), axis_types=(AxisType[kind],)), PartitionSpec("data"))
    planned, left = GradientCall("f", "t.py:1", 1024), GradientCall("g", "t.py:2", left="no rule")
    found = seen_whole([planned, left], (jax.ShapeDtypeStruct((8,), jnp.float32, sharding=lies),), {"scale": 0.1})
    assert [call.together for call in found] == [together, 1]


def test_a_jitted_function_is_what_it_was():
    class Model:
        @functools.partial(jax.jit, static_argnums=0)
        def double(self, x):
            return 2 * x

    plain = jax.jit(jnp.sin)
    with PlannedGradients({}).in_place():

        class Watched:
            @functools.partial(jax.jit, static_argnums=0)
            def double(self, x):
                return 2 * x

        watched = jax.jit(jnp.sin)
        assert float(Watched().double(2.0)) == float(Model().double(2.0))
    assert isinstance(watched, ScriptProgram)
    assert not isinstance(jax.jit(jnp.sin), ScriptProgram)
    assert watched.__name__ == plain.__name__
    assert watched.lower(X).as_text() == plain.lower(X).as_text()
    assert watched.trace(X).jaxpr.eqns[0].primitive == plain.trace(X).jaxpr.eqns[0].primitive
    assert watched.eval_shape(X) == plain.eval_shape(X)
    assert_same(jax.vmap(watched)(X), plain(X))
    assert_same(jax.jit(lambda x: watched(x) + 1)(X), plain(X) + 1)
    with pytest.raises(AttributeError):
        watched.no_such_thing  # noqa: B018


def test_a_program_of_batched_values_is_not_taken_for_one_of_its_own():
    planned = PlannedGradients({})
    with planned.in_place():
        jax.vmap(jax.jit(jax.grad(lambda x: jnp.sum(x**3))))(X)
    assert [call.certified_bytes for call in planned.calls] == [None]


@pytest.mark.parametrize("dry", [None, 1])
def test_a_budget_that_is_too_small_is_noted(dry):
    planned = PlannedGradients({"budget": 10}, dry=dry)
    with planned.in_place(), pytest.raises(cg.BudgetError) as caught:
        jax.jit(make_step(lambda f: jax.value_and_grad(f)), static_argnames="scale")(W, X, scale=0.1)
    (call,) = planned.calls
    assert call.left == f"the smallest peak is {format_bytes(caught.value.smallest)}"


@pytest.mark.parametrize("most", [1, 5])
def test_a_dry_run_compiles_and_runs_nothing_that_is_planned(most):
    def script():
        step = jax.jit(make_step(lambda f: jax.value_and_grad(f)), static_argnames="scale")
        for _ in range(2):
            value = step(W, X, scale=0.1)
        return value, jax.grad(lambda w: jnp.sum(jnp.tanh(X @ w)))(W)

    wanted, planned, found = script(), PlannedGradients({}, dry=most), None
    with planned.in_place():
        if most == 1:
            with pytest.raises(Enough):
                script()
        else:
            found = script()
    assert [(call.program, call.times) for call in planned.calls] == [("step", 1), ("", 1)][:most]
    assert all(call.certified_bytes > 0 for call in planned.calls)
    if found is not None:
        assert_same(found, wanted, bits=True)
