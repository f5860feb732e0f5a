"""The devices that a program names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.meshes import devices_named, meshes_named

MESH = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
ABSTRACT = AbstractMesh((1,), ("d",), axis_types=(AxisType.Auto,))


def mapped(x):
    return jax.shard_map(jnp.sin, mesh=MESH, in_specs=P("d"), out_specs=P("d"))(x)


def constrained(x):
    return jax.lax.with_sharding_constraint(x, NamedSharding(MESH, P("d")))


def scanned(x):
    return jax.lax.scan(lambda c, _: (mapped(c), None), x, None, length=2)[0]


@pytest.mark.parametrize("fun", [mapped, constrained, scanned, lambda x: jax.lax.cond(x[0] > 0, jnp.sin, mapped, x)])
def test_devices_of_meshes_in_operations(fun):
    graph = cg.trace(fun, jnp.ones(4))
    assert devices_named(graph) == {*MESH.devices.flat}
    assert MESH in meshes_named(graph)


def test_devices_of_the_shardings_of_values():
    graph = cg.trace(jnp.sin, jnp.ones(4))
    assert (devices_named(graph), meshes_named(graph)) == (set(), [])
    graph.inputs[0].sharding = NamedSharding(ABSTRACT, P("d"))
    assert devices_named(graph) == set()
    graph.inputs[0].sharding = NamedSharding(MESH, P("d"))
    assert devices_named(graph) == {*MESH.devices.flat}
