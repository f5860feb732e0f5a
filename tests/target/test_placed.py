"""Arguments of programs for devices that are not here."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import ckptgrad as cg
from ckptgrad.target.placed import on_devices, placed
from tests.support.targets import compile_only


@pytest.mark.parametrize("leaf", [jnp.ones((2, 3)), 1.5, True, jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.bfloat16)])
def test_types_stay_and_are_placed_on_the_first_device(leaf):
    first = jax.devices()[0]
    (struct,) = placed([leaf], [first])
    assert (struct.shape, struct.dtype) == (jax.typeof(leaf).shape, jax.typeof(leaf).dtype)
    assert struct.weak_type == isinstance(leaf, (bool, float)) or isinstance(leaf, bool)
    assert struct.sharding == SingleDeviceSharding(first)


def test_what_is_not_placed_goes_along_with_what_is():
    target = compile_only("h100:2")
    mesh = target.mesh((2,), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    x, w = placed([jax.ShapeDtypeStruct((4,), jnp.float32, sharding=split), jnp.ones(3)], target.devices)
    assert x.sharding == split
    assert w.sharding == NamedSharding(mesh, PartitionSpec())


def test_what_lies_over_other_devices_lies_alike_over_these():
    elsewhere, target = compile_only("a100:4"), compile_only("h100:4")
    mesh = elsewhere.mesh((2, 2), ("data", "model"))
    split = NamedSharding(mesh, PartitionSpec("model", "data"))
    (x,) = placed([jax.ShapeDtypeStruct((4, 6), jnp.float32, sharding=split)], target.devices)
    assert x.sharding == on_devices(split, target.devices)
    assert x.sharding == NamedSharding(target.mesh((2, 2), ("data", "model")), PartitionSpec("model", "data"))
    assert x.sharding.mesh.axis_types == (AxisType.Auto,) * 2
    assert on_devices(x.sharding, target.devices) is x.sharding
    with pytest.raises(cg.OptionError, match=r"a mesh of 4 devices.*the target has 2"):
        on_devices(split, compile_only("h100:2").devices)


def test_a_plan_for_a_target_counts_bytes_of_one_device_wherever_the_arguments_lie():
    def loss(w, x):
        for _ in range(3):
            x = jnp.tanh(x @ w)
        return jnp.sum(x)

    target, elsewhere = compile_only("h100:8"), compile_only("a100:8")
    w = jax.ShapeDtypeStruct((64, 64), jnp.float32)

    def of(mesh):
        split = NamedSharding(mesh, PartitionSpec("data"))
        x = jax.ShapeDtypeStruct((512, 64), jnp.float32, sharding=split)
        return cg.plan(loss, w, x, target=target, budget="1MiB", costs="estimate")

    here, there = (of(t.mesh((8,), ("data",))) for t in (elsewhere, target))
    assert here.program.devices == 8
    assert here.peak_bytes == there.peak_bytes
