"""Types of values and of their cotangents, outside a mesh; `tests/rules/test_sharded.py` has those on one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ckptgrad.graph.value_types import (
    as_cotangent,
    behind_one_barrier,
    cotangent_spec,
    cotangent_struct,
    cotangent_type,
    explicit_sharding,
    filled,
    is_manual,
    struct,
)


def test_a_struct_keeps_the_weak_type_and_a_cotangent_has_none():
    weak = jax.typeof(jnp.asarray(2.0))
    assert weak.weak_type
    assert struct(weak).weak_type
    assert not cotangent_struct(weak).weak_type
    assert cotangent_type(weak) is weak


def test_arrays_of_one_number():
    ones = filled(jax.typeof(jnp.zeros((2, 3), jnp.bfloat16)), 1)
    assert (ones.shape, ones.dtype, float(ones.sum())) == ((2, 3), jnp.bfloat16, 6.0)


def test_values_are_behind_one_barrier_or_one_for_each_way_they_vary():
    values = {"a": jnp.ones(2), "b": jnp.zeros(3)}
    assert behind_one_barrier(values)["b"].shape == (3,)
    names = [e.primitive.name for e in jax.make_jaxpr(behind_one_barrier)(values).eqns]
    assert names == ["optimization_barrier"]
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("i")

    def pair(x, y):
        passed = behind_one_barrier([x, y])
        assert [jax.typeof(v) for v in passed] == [jax.typeof(v) for v in (x, y)]
        return passed

    jax.make_jaxpr(jax.shard_map(pair, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=[spec, PartitionSpec()]))(
        *values.values()
    )


def test_a_token_has_no_struct():
    assert jax.make_jaxpr(lambda t: t)(struct(jax.typeof(jax.lax.create_token()))).in_avals


@pytest.mark.parametrize(("kind", "explicit"), [("Explicit", True), ("Auto", False)])
def test_a_sharding_is_part_of_the_type_where_axes_are_explicit(kind, explicit):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType[kind],))
    x = jax.device_put(jnp.ones(4), NamedSharding(mesh, PartitionSpec("d")))
    with jax.set_mesh(mesh):
        seen = []
        jax.make_jaxpr(lambda x: seen.append(jax.typeof(x)) or x)(x)
    assert (explicit_sharding(seen[0]) is not None) == explicit
    assert not is_manual(seen[0])


def test_zeros_are_sharded_as_their_type_states_on_any_mesh():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    wanted = jax.typeof(jax.device_put(jnp.ones((4, 2)), NamedSharding(mesh, PartitionSpec("d"))))
    seen = []
    jax.make_jaxpr(lambda: seen.append(jax.typeof(filled(wanted))) or 0)()
    assert explicit_sharding(seen[0]) == explicit_sharding(wanted)
    assert explicit_sharding(wanted) is not None
    assert filled(wanted).shape == (4, 2)  # outside a trace too


def test_inside_a_shard_map_a_cotangent_varies_as_its_value_does():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    seen = []

    def inside(x):
        constant = jnp.ones(4)
        seen.extend([is_manual(jax.typeof(x)), jax.typeof(as_cotangent(constant, jax.typeof(x))) == jax.typeof(x)])
        # What varies over an axis over which the value does not is summed over it.
        seen.append(jax.typeof(as_cotangent(x, jax.typeof(constant))) == jax.typeof(constant))
        return x

    jax.make_jaxpr(jax.shard_map(inside, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d")))(jnp.ones(4))
    assert seen == [True, True, True]


def test_reduced_and_unreduced_change_places():
    spec = PartitionSpec("x", reduced={"y"})
    assert cotangent_spec(spec) == PartitionSpec("x", unreduced={"y"})
    assert cotangent_spec(cotangent_spec(spec)) == spec
    assert cotangent_spec(PartitionSpec("x")) == PartitionSpec("x")
