"""Which results of operations are their operands' buffers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.target.in_place import in_place, passed_on
from ckptgrad.target.target import described

CPU, TPU = described("cpu"), described("tpu")
MESH = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        (None, None, True),
        (P("data"), P("data"), True),
        (P(), P(None, None), True),
        (P("data"), P(), False),
        (P("data"), P("model"), False),
        (P("data", "model"), P("data"), False),
    ],
)
def test_a_reshape_is_its_operand_where_both_are_cut_alike(before, after, alike):
    (op,) = cg.trace(lambda x: x.reshape(32, 2), jnp.ones((8, 8))).operations
    for v, spec in ((op.inputs[0], before), (op.outputs[0], after)):
        v.sharding = None if spec is None else NamedSharding(MESH, spec)
    assert in_place(op, CPU) == ({op.outputs[0]: op.inputs[0]} if alike else {})
    assert in_place(op, TPU) == {}


@pytest.mark.parametrize(
    ("before", "after", "alike"), [(P("data"), P("data"), True), (P("data"), P(), False), (P(), P("data"), False)]
)
def test_what_is_told_to_lie_where_it_lies_is_its_operand(before, after, alike):
    there = NamedSharding(MESH, after)
    (op,) = cg.trace(lambda x: lax.with_sharding_constraint(x, there), jnp.ones((8, 8))).operations
    op.inputs[0].sharding, op.outputs[0].sharding = NamedSharding(MESH, before), there
    for target in (CPU, TPU):
        assert in_place(op, target) == ({op.outputs[0]: op.inputs[0]} if alike else {})


def test_what_a_map_passes_on():
    def body(x, y):
        return y[0], x, 2 * x, x.T, y[:, None], lax.psum(x, "d"), x.reshape(4)[:2]

    program = jax.make_jaxpr(body, axis_env=[("d", 2)])(jnp.ones((2, 2)), jnp.ones((1, 4))).jaxpr
    assert passed_on(program) == [1, 0, None, None, 1, None, None]


def test_a_map_that_gives_each_device_what_it_had():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    again = jax.shard_map(lambda x, y: (x, jnp.sin(y)), mesh=mesh, in_specs=P("d"), out_specs=P(None, "d"))
    (op,) = cg.trace(again, jnp.ones((8, 8)), jnp.ones((8, 8))).operations
    assert in_place(op, CPU) == {op.outputs[0]: op.inputs[0]}
