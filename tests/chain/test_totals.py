"""Gradients that are added to a total where they are made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.chain.totals import always_in_place, in_place
from ckptgrad.chain.waiting import waiting_bytes
from ckptgrad.graph.graph import variables_of
from ckptgrad.graph.trace import trace
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from tests.support.compare import assert_same, quick

WORDS, WIDTH, TOKENS, LAYERS = 500, 8, 64, 2
TABLE = WORDS * WIDTH * 8


def tied(params, tokens):
    """An embedding that is read where tokens come in, and again for the loss."""
    x = params["embedding"][tokens]
    for w in params["layers"]:
        x = jnp.tanh(x @ w)
    return -jnp.mean(jax.nn.log_softmax(x @ params["embedding"].T)[:, 0])


def shared(params, tokens):
    """One matrix in every layer."""
    x = params["embedding"][tokens]
    for _ in params["layers"]:
        x = jnp.tanh(x @ params["layers"][0])
    return jnp.mean(x**2)


def arguments(dtype=jnp.float64):
    draw = np.random.default_rng(0)
    layers = [jnp.asarray(draw.normal(size=(WIDTH, WIDTH)), dtype) for _ in range(LAYERS)]
    params = {"embedding": jnp.asarray(draw.normal(size=(WORDS, WIDTH)), dtype), "layers": layers}
    return params, jnp.asarray(draw.integers(0, WORDS, TOKENS))


def of_backward(function, *args):
    """What `in_place` makes of the backward of a stage that has one argument, whose gradient is added to a total."""
    graph = cg.trace(function, *args)
    part = partition(joint(graph, graph.inputs[:1], graph.outputs), ())
    gradient = part.joint.gradients[0]
    return in_place(part.backward_run.operations, [gradient], ()), gradient


ROWS = jnp.array([1, 3, 3])


@pytest.mark.parametrize(
    ("function", "dtype", "added"),
    [
        (lambda x: jnp.sin(x[ROWS]).sum(), jnp.float32, True),
        (lambda x: jnp.sin(x[ROWS]).sum(), jnp.bfloat16, False),  # Small addends would be lost beside a large total.
        (lambda x: jnp.sin(x).sum(), jnp.float32, False),
        (lambda x: 2 * jnp.sin((3 * x)[ROWS]).sum(), jnp.float32, False),  # What is scattered is not the gradient yet.
    ],
)
def test_what_is_scattered_into_zeros_is_added_to_the_total(function, dtype, added):
    found, gradient = of_backward(function, jnp.ones((5, 2), dtype))
    assert (gradient in found.totals) == added
    read = {v for op in found.operations for v in variables_of(op.inputs)}
    assert read.issuperset(found.totals.values())
    zeros = [op for op in found.operations if op.name == "broadcast_in_dim" and op.outputs[0].shape == (5, 2)]
    assert not (added and zeros)


def test_a_gradient_that_is_read_or_returned_beside_the_sum_is_no_addition():
    graph = cg.trace(lambda x: jnp.sin(x[ROWS]).sum(), jnp.ones((5, 2)))
    part = partition(joint(graph, graph.inputs, graph.outputs), ())
    (gradient,) = part.joint.gradients
    assert not in_place(part.backward_run.operations, [gradient], {gradient}).totals
    assert not in_place(part.backward_run.operations, [gradient, gradient], ()).totals


@pytest.mark.parametrize(("loss", "microbatches"), [(tied, None), (tied, 2), (shared, None)])
def test_sums_across_stages_agree_with_jax(loss, microbatches):
    with jax.enable_x64(True):
        args = arguments()
        gradient = cg.grad(loss, budget="min", chunks=True, microbatches=microbatches)
        assert_same(quick(gradient)(*args), quick(jax.grad(loss))(*args), scale=10)


def test_what_a_loop_carries_in_a_wider_dtype_is_added_afterwards():
    program = cg.plan(tied, *arguments(jnp.bfloat16), budget="min", chunks=True).program
    assert any(program.summed)
    assert not program.in_results


def test_a_loop_over_chunks_that_begins_with_a_total_is_differentiated_again():
    with jax.enable_x64(True):
        params, tokens = arguments()

        def slopes(engine, **options):
            gradient = engine.grad(lambda p: tied(p, tokens), **options)
            return quick(lambda p: jax.jvp(gradient, (p,), (jax.tree.map(jnp.cos, p),))[1])(params)

        assert_same(slopes(cg, budget="min", chunks=True), slopes(jax), scale=100)


def test_the_sum_lies_in_the_result():
    """Nothing waits beside the boundaries; the table's gradient, as it grows, is the result's own memory."""
    with jax.enable_x64(True):
        args = arguments()
        compiled = cg.grad(tied, budget="min", chunks=True).compile(*args)
        program = compiled.plan.program
        summed = {stage.differentiated[k] for stage, ks in zip(program.stages, program.summed, strict=True) for k in ks}
        assert program.in_results == summed != set()
        assert not any(waiting_bytes(program))
        assert compiled.temporary_bytes < 1.5 * TABLE


def test_every_option_must_add_in_place():
    """A product is made first, and added then: the sum of one matrix's gradients waits."""
    program = cg.plan(shared, *arguments(jnp.float32), budget="min", chunks=False).program
    assert any(program.summed)
    assert not any(always_in_place(stage.kind, ks) for stage, ks in zip(program.stages, program.summed, strict=True))
    assert not program.in_results
    assert any(waiting_bytes(program))


def test_zeros_that_are_scattered_themselves_stay():
    def scattered(places):
        zeros = jnp.zeros(3)
        return zeros.at[places].add(zeros)

    graph = trace(scattered, jnp.arange(3))
    scatter = next(op for op in graph.operations if op.name == "scatter-add")
    assert scatter.inputs[0] is scatter.inputs[2]
    assert not in_place(graph.operations, graph.outputs, ()).totals
