"""Arguments of programs for devices that are not here."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from ckptgrad.target.placed import placed
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
