"""Shardings written on the variables of a graph."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.atoms import device_bytes, parts_of
from ckptgrad.target.laid_out import laid_out_cotangent, laid_out_struct, lay_out, stated_by_types, whole

AUTO = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
EXPLICIT = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)


def layer(x, w):
    return jnp.tanh(x @ w)


def graph_of(*structs):
    return cg.trace(layer, *structs)


def plain(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_the_partitioner_is_asked_where_shardings_of_inputs_are_known():
    graph = graph_of(plain(16, 8), plain(8, 6))
    x, w = graph.inputs
    (y,) = graph.outputs
    lay_out(graph.operations, graph.inputs, {x: NamedSharding(AUTO, P("data"))})
    assert [device_bytes(v) for v in (x, w, y)] == [4 * 4 * 8, 4 * 8 * 6, 4 * 4 * 6]
    assert w.sharding == whole(AUTO)
    assert laid_out_struct(x).sharding == x.sharding
    assert laid_out_cotangent(y).sharding == y.sharding


def test_results_lie_as_they_are_known_to():
    graph = graph_of(plain(16, 8), plain(8, 6))
    x, (y,) = graph.inputs[0], graph.outputs
    lay_out(graph.operations, graph.inputs, {x: NamedSharding(AUTO, P("data")), y: NamedSharding(AUTO, P("data", "model"))})
    assert parts_of(y.sharding, 2) == (4, 2)


def test_what_no_sharding_says_counts_whole():
    """Rows over four devices as two times some: two along one axis, and two along the next."""
    graph = cg.trace(lambda x: jnp.tanh(x).reshape(2, 8, 8), plain(16, 8))
    (x,), (y,) = graph.inputs, graph.outputs
    lay_out(graph.operations, graph.inputs, {x: NamedSharding(AUTO, P("data"))})
    assert (y.loose, parts_of(y.sharding, 3)) == (True, (1, 1, 1))
    assert not graph.operations[0].outputs[0].loose


def test_what_is_filled_with_one_number_lies_as_what_is_made_of_it():
    """The picked entries of a table: its gradient is scattered into zeros, of which each device fills its part."""
    graph = cg.trace(
        lambda x, i: jnp.zeros(x.shape).at[jnp.arange(16), i].add(1.0) * x, plain(16, 8), plain(16).update(dtype=jnp.int32)
    )
    x = graph.inputs[0]
    lay_out(graph.operations, graph.inputs, {x: NamedSharding(AUTO, P("data"))})
    filled = next(op for op in graph.operations if op.name == "broadcast_in_dim" and op.outputs[0].shape == (16, 8))
    scattered = next(op for op in graph.operations if op.name.startswith("scatter"))
    assert filled.outputs[0].sharding == scattered.outputs[0].sharding
    assert parts_of(filled.outputs[0].sharding, 2) == (4, 1)


def test_types_are_read_where_they_state_shardings():
    with jax.sharding.use_abstract_mesh(EXPLICIT):
        graph = graph_of(
            jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=NamedSharding(EXPLICIT, P("data"))),
            jax.ShapeDtypeStruct((8, 6), jnp.float32, sharding=NamedSharding(EXPLICIT, P(None, "model"))),
        )
    assert stated_by_types(graph.variables)
    lay_out(graph.operations, graph.inputs, {})
    assert device_bytes(graph.outputs[0]) == 4 * 4 * 3
    assert laid_out_struct(graph.inputs[0]).sharding == graph.inputs[0].aval.sharding


def test_nothing_is_done_on_one_device():
    graph = graph_of(plain(16, 8), plain(8, 6))
    lay_out(graph.operations, graph.inputs, dict.fromkeys(graph.inputs))
    assert not any(v.sharding for v in graph.variables)


@pytest.mark.parametrize(("rows", "part"), [(16, 4), (13, 4), (3, 1)])
def test_the_fullest_device_counts(rows, part):
    graph = graph_of(plain(rows, 8), plain(8, 6))
    graph.inputs[0].sharding = NamedSharding(AUTO, P("data"))
    assert device_bytes(graph.inputs[0]) == 4 * part * 8
