"""What is held at the peak of a plan, and what holds the smallest peak up."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.source import SourceLine
from ckptgrad.meters.buffers import Buffer
from ckptgrad.results.at_peak import at_peak, floor_of, named_arrays

X, W = jnp.ones((64, 16)), jnp.ones((16, 64))


def loss(ws, x):
    for k, w in enumerate(ws):
        with jax.named_scope(f"layer_{k}"):
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w) @ w.T)(w, x)
    return jnp.sum(x)


def plan_of(**options):
    return cg.plan(loss, [W] * 4, X, costs="estimate", **options)


@pytest.fixture(scope="module")
def least():
    return plan_of(budget="min")


def test_bytes_by_kind_are_all_that_is_held(least):
    peak = at_peak(least.program, least.costs, least.schedule)
    assert peak == at_peak(least.program, least.costs, least.schedule, least.simulation)
    assert sum(peak.by_kind.values()) == peak.bytes == least.peak_bytes
    assert peak.by_kind["gradients of arguments"] == 4 * W.nbytes
    assert peak.by_kind["outputs"] == 4
    inside = peak.by_kind["inside the backward"]
    assert sum(buffer.bytes for buffer in peak.held) == peak.bytes - inside
    assert all(buffer.kind != "transients" for buffer in peak.held)


def test_tables_that_are_held_through_the_call_are_no_outputs(least):
    costs = replace(least.costs, held_bytes=least.costs.held_bytes + 1000)
    peak = at_peak(least.program, costs, least.schedule)
    assert (peak.by_kind["outputs"], peak.by_kind["tables of tuples"]) == (4, 1000)
    assert [b.bytes for b in peak.held if b.what == "tables of tuples"] == [1000]
    assert sum(peak.by_kind.values()) == peak.bytes == least.peak_bytes + 1000
    assert sum(buffer.bytes for buffer in peak.held) == peak.bytes - peak.by_kind["inside the backward"]


def test_the_stage_is_named_with_its_line_and_its_arrays(least):
    peak = at_peak(least.program, least.costs, least.schedule)
    assert peak.action == least.schedule.actions[least.simulation.peak_at]
    assert peak.doing.startswith(f"the backward of stage {peak.stage} (layer_{peak.stage}, test_at_peak.py:")
    # The product of the incoming cotangent, and the transposed weights of the last product.
    assert [(b.type, b.what) for b in peak.inside] == [("float32[64,64]", "dot_general"), ("float32[64,16]", "transpose")]
    assert peak.named == "float32[64,64] of dot_general (16.0 KiB), float32[64,16] of transpose (4.0 KiB)"
    # Gradients that come later hold two arrays of 4 KiB.
    assert peak.split.startswith("16.0 KiB gradients of arguments, 16.0 KiB residuals, 8.0 KiB boundaries, ")
    assert "8.0 KiB inside the backward" in peak.split


def test_arrays_inside_a_forward_are_its_own():
    """The forward of the last stage needs the most: it makes and reads arrays that are wider than what it passes on."""

    def narrow(x):
        x = cg.stage(lambda x: jnp.sin(x))(x)
        return jnp.sum(jax.lax.stop_gradient(jnp.tanh(jnp.tanh(x @ W) @ W.T @ W)) @ W.T)

    plan = cg.plan(narrow, X, costs="estimate")
    peak = at_peak(plan.program, plan.costs, plan.schedule)
    assert str(peak.action).startswith("F")
    assert "inside the forward" in peak.by_kind
    assert [b.what for b in peak.inside] == ["tanh", "transpose", "dot_general"]
    # The result of the forward is counted with the boundaries.
    assert sum(b.bytes for b in peak.inside) == peak.by_kind["inside the forward"] == 24 * 1024


def test_arrays_inside_a_loop_are_those_of_a_step_and_of_what_is_kept_of_the_steps_around_it():
    def scanned(ws, x):
        def layer(x, w):
            h = jnp.tanh(x @ w)
            return x + h @ w.T, None

        return jnp.sum(jax.lax.scan(layer, x, ws)[0] ** 2)

    for budget, stacks in (("min", 1), ("0.9x", 0)):
        plan = cg.plan(scanned, jnp.stack([W] * 8), X, costs="estimate", budget=budget, chunks=False)
        peak = at_peak(plan.program, plan.costs, plan.schedule)
        assert sum(b.bytes for b in peak.inside) == peak.by_kind["inside the backward"]
        lines = {b.source.line for b in peak.inside}
        assert scanned.__code__.co_firstlineno + 2 in lines
        assert sum(b.what.endswith(" steps") and b.shape[0] > 1 for b in peak.inside) == stacks


def test_the_floor_is_what_the_smallest_plan_holds(least):
    floor = floor_of(least.program, least.costs)
    assert floor.bytes == least.peak_bytes
    assert floor.slowdown == pytest.approx(least.seconds / plan_of(budget="1x").seconds)
    assert floor.slowdown > 1
    assert f"estimated time there: {floor.slowdown:.2f} times" in str(floor)
    assert floor.to_dict()["by_kind"] == dict(floor.at_peak.by_kind)
    assert floor_of(least.program, least.costs, plan_of().schedule, everything=7).bytes == plan_of().peak_bytes
    assert floor_of(least.program, least.costs, everything=7).everything_bytes == 7


def test_arrays_that_are_alike_are_named_together_and_lines_that_are_known_are_not():
    here, there = SourceLine("model.py", 3, "f", "block"), SourceLine("model.py", 4, "f", "block")
    array = Buffer("transients", 2048, "tanh", (512,), "float32", 0, here)
    other = Buffer("transients", 3072, "sin", (768,), "float32", 0, there)
    assert named_arrays([array, other, array], here) == [
        "2 x float32[512] of tanh (4.0 KiB)",
        "float32[768] of sin at model.py:4 (3.0 KiB)",
    ]
    assert named_arrays([Buffer("transients", 1024, "inside the backward")]) == ["inside the backward (1.0 KiB)"]


def test_arrays_are_not_given_the_lines_of_another_function_with_equal_stages():
    def same(ws, x):
        for w in ws:
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w) @ w.T)(w, x)
        return jnp.sum(x)

    first, second = (cg.plan(fun, [W] * 4, X, costs="estimate", budget="min") for fun in (loss, same))
    assert first.program.stages[1].kind is second.program.stages[1].kind
    for plan in (first, second):
        assert " at " not in at_peak(plan.program, plan.costs, plan.schedule).named


def test_the_arrays_inside_a_stage_over_chunks_are_those_of_one_turn():
    def loss(ws, x):
        for w in ws:
            x = x + jax.nn.softmax(x @ w) @ w.T
        return jnp.mean(x**2)

    plan = cg.plan(loss, [jnp.ones((8, 256))] * 3, jnp.ones((64, 8)), budget="min", chunks=True, costs="estimate")
    assert plan.program.chunked
    shapes = {b.shape for b in plan.floor.at_peak.inside}
    assert any(len(shape) == 2 and shape[0] < 64 and shape[1] == 256 for shape in shapes)
    assert not any(shape == (64, 256) for shape in shapes)
    assert "float32[" in str(plan.floor)
