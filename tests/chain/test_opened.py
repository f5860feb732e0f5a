"""A program whose stages are open: its operations, and what they are estimated to take."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.bench.target_models import MODELS
from ckptgrad.chain.opened import is_estimated, open_is_faster, opened
from ckptgrad.example_models import attention_blocks, plain, transformer, without_arrays
from ckptgrad.graph.atoms import device_bytes
from ckptgrad.target.attached import attached
from ckptgrad.target.platform import platform_named
from tests.support.targets import compile_only

GPU = replace(attached(), platform=platform_named("gpu"), attached=False)
MESH = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
WIDTH, ROWS = 64, 1024


def layers(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return x.sum()


def opening(ws, x, **options):
    plan = cg.plan(layers, ws, x, **options)
    return plan, opened(plan.program, plan.schedule.kept)


def struct(*shape, spec=None, dtype=jnp.float32):
    sharding = None if spec is None else NamedSharding(MESH, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


@pytest.mark.parametrize("budget", [None, "min"])
def test_nothing_stands_in_it_twice(budget):
    """Whatever is repeated by the plan: three products a layer, but for the gradient of the first operand."""
    found = opening([struct(WIDTH, WIDTH)] * 4, struct(ROWS, WIDTH), budget=budget, target=GPU)[1]
    assert Counter(op.name for op in found.operations)["dot_general"] == 3 * 4 - 1
    assert len(found.results) == 1 + 4


def test_gradients_of_shared_weights_are_added():
    w = struct(WIDTH, WIDTH)
    plan = cg.plan(lambda w, x: layers([w] * 4, x), w, struct(ROWS, WIDTH), target=GPU)
    found = opened(plan.program, plan.schedule.kept)
    own = opening([w] * 4, struct(ROWS, WIDTH), target=GPU)[1]
    shared, apart = (sum(op.name.startswith("add") for op in run.operations) for run in (found, own))
    assert shared == apart + 3
    assert len(found.results) == 2


def test_what_a_layer_hands_on_is_held():
    """Each layer's product, from which a fusing compiler makes the rest again; the gradients, and little else."""
    plan, found = opening([struct(WIDTH, WIDTH)] * 6, struct(ROWS, WIDTH), target=GPU)
    boundary, weights = 4 * ROWS * WIDTH, 4 * 6 * WIDTH**2
    assert 6 * boundary <= found.peak_bytes() - weights <= 14 * boundary
    assert plan.opened_bytes == found.peak_bytes()
    assert found.seconds() > 0


def test_values_of_half_precision_are_written_where_fusions_cross_stages():
    """What a gate and its derivative read is made again from the product in single precision."""

    def gates(ws, x):
        for w in ws:
            h = x @ w
            x = h * jnp.tanh(h)
        return x.sum()

    peaks: list[int] = []
    for dtype in (jnp.float32, jnp.bfloat16):
        plan = cg.plan(gates, [struct(WIDTH, WIDTH, dtype=dtype)] * 6, struct(ROWS, WIDTH, dtype=dtype), target=GPU)
        peaks.append(opened(plan.program, plan.schedule.kept).peak_bytes() // dtype.dtype.itemsize)
    assert peaks[1] >= peaks[0] + 5 * ROWS * WIDTH


def test_a_sharded_parameter_is_gathered_once_and_kept_for_the_backward():
    sharded, whole = (
        opening([struct(WIDTH, WIDTH, spec=spec)] * 4, struct(ROWS, WIDTH, spec=P("data")))[1] for spec in (P("data"), P())
    )
    gathers = [op for op in sharded.operations if op.name == "sharding_constraint"]
    assert [device_bytes(op.outputs[0]) for op in gathers] == [4 * WIDTH**2] * 4
    assert [device_bytes(op.inputs[0]) for op in gathers] == [4 * WIDTH**2 // 8] * 4
    # A layer's backward reads the copy that its forward did, for all but the first.
    readers = [sum(op.outputs[0] in other.inputs for other in sharded.operations) for op in gathers]
    assert readers == [1, 2, 2, 2]
    assert not any(op.name == "sharding_constraint" for op in whole.operations)


def test_a_plan_says_what_compile_takes_without_a_budget():
    args = [struct(WIDTH, WIDTH)] * 4, struct(ROWS, WIDTH)
    free, within = (cg.plan(layers, *args, budget=budget, target=GPU) for budget in (None, "min"))
    assert free.compiled_open
    assert not within.compiled_open
    assert "leaves stages open" in str(free).replace("\n", " ")
    assert "leaves stages open" not in str(within).replace("\n", " ")
    assert free.to_dict()["opened_bytes"] == free.opened_bytes == replace(free, fenced=False).peak_bytes
    assert "no budget: .compile leaves stages open" in {p.policy for p in cg.frontier(layers, *args, target=GPU).others}


def test_on_cpu_nothing_is_told():
    plan = cg.plan(layers, [struct(WIDTH, WIDTH)] * 4, struct(ROWS, WIDTH))
    assert not is_estimated(plan.target)
    assert not open_is_faster(plan.program)
    assert plan.opened_bytes is None
    assert not replace(plan, fenced=False).is_predicted


def sizes(make, **more):
    return lambda dtype: without_arrays(make, dtype, width=512, context=512, batch=8, **more)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(
    "make",
    [
        sizes(attention_blocks, blocks=4),
        lambda dtype: sizes(transformer, blocks=3, heads=8, vocabulary=8192, dtype=dtype)(dtype),
        lambda dtype: without_arrays(MODELS["mlp"].make, dtype, layers=6, width=1024, hidden=4096, batch=8192),
    ],
    ids=["blocks", "gpt", "mlp"],
)
def test_open_programs_take_what_is_predicted(make, dtype):
    target = compile_only("h100")
    loss, args = make(dtype)
    certified = cg.value_and_grad(loss, target="h100").compile(*args)
    assert not certified.plan.fenced
    assert certified.plan.peak_bytes == pytest.approx(certified.peak_bytes, rel=0.12)
    grad = target.compile(target.lower(jax.jit(jax.value_and_grad(plain(loss))), *args))
    assert certified.peak_bytes <= 1.02 * target.allocated(grad).peak_bytes
