"""Temporaries in the memory of results that come later, against what compiled programs take."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.costs import hosted
from ckptgrad.costs.estimated import costs_of_stages, estimated_costs


def layers(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return (x**2).mean()


def residual_layers(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w) @ w.T
    return (x**2).mean()


def structs(depth, rows, width, hidden):
    weight = jax.ShapeDtypeStruct((width, hidden), jnp.float32)
    return [weight] * depth, jax.ShapeDtypeStruct((rows, width), jnp.float32)


@pytest.mark.parametrize(
    ("loss", "argnums", "args", "budget"),
    [
        # Gradients of the weights are larger than activations.
        (layers, 0, structs(6, 64, 128, 128), "min"),
        # That of the batch is as large.
        (residual_layers, (0, 1), structs(6, 2048, 16, 16), None),
    ],
    ids=["large weights", "the batch is differentiated"],
)
def test_the_prediction_is_what_the_compiler_takes(loss, argnums, args, budget):
    found = cg.value_and_grad(loss, argnums, budget=budget, chunks=False).compile(*args)
    assert found.plan.peak_bytes == pytest.approx(found.peak_bytes, rel=0.03)


def program_of(loss, args, **options):
    return cg.grad(loss, **options).plan(*args).program


def transients(costs):
    return [option.backward_transient for stage in costs.stages for option in stage.options]


def test_each_result_has_room_for_one_array_and_one_result_is_for_those_inside_stages():
    program = program_of(layers, structs(6, 64, 128, 128))
    alone, found = costs_of_stages(program), estimated_costs(program)
    act = 64 * 128 * 4
    in_results = [a - b for a, b in zip(transients(alone), transients(found), strict=True)]
    assert max(in_results) > 0
    assert all(bytes_ % act == 0 for bytes_ in in_results)
    first = len(alone.stages[0].options)
    # No gradient comes after those of the first stage.
    assert in_results[:first] == [0] * first


def test_nothing_lies_in_results_where_stages_are_programs_or_gradients_are_used_at_once():
    program = program_of(layers, structs(6, 64, 128, 128))
    costs = costs_of_stages(program)
    for other in (replace(program, staged=True), replace(program, consumed=True)):
        assert hosted.with_hosted(other, costs) is costs
    assert program_of(layers, structs(6, 64, 128, 128), runtime="staged").staged


def test_equal_stages_stay_one_object():
    """By which searches know that they are alike."""
    program = program_of(layers, structs(40, 8, 128, 128))
    assert len({id(stage) for stage in estimated_costs(program).stages}) < 12


def test_equal_stages_are_looked_at_as_often_in_a_longer_chain(monkeypatch):
    looked = []
    matched = hosted._matched
    monkeypatch.setattr(hosted, "_matched", lambda *given: looked.append(given) or matched(*given))
    counts = []
    for depth in (30, 60):
        looked.clear()
        estimated_costs(program_of(layers, structs(depth, 64, 128, 128)))
        counts.append(len(looked))
    assert counts[0] == counts[1] > 0
