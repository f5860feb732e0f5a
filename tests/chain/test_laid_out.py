"""Layouts of traced functions are asked once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.chain import laid_out
from ckptgrad.chain.laid_out import lay_out_graph
from ckptgrad.graph.atoms import parts_of

MESH = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))


@pytest.fixture
def asked(monkeypatch):
    """The programs of which the partitioner was asked."""
    programs = []
    inner = laid_out.lay_out

    def counted(operations, *args):
        programs.append(operations)
        inner(operations, *args)

    monkeypatch.setattr(laid_out, "lay_out", counted)
    return programs


def test_equal_programs_with_equal_shardings_are_asked_about_once(asked):
    def trace():
        return cg.trace(lambda x: jnp.tanh(x) * 3.25, jax.ShapeDtypeStruct((8, 5), jnp.float32))

    for spec, count in [(P("data"), 1), (P("data"), 1), (P(), 2), (P("data"), 2)]:
        graph = trace()
        lay_out_graph(graph, [NamedSharding(MESH, spec)])
        assert len(asked) == count
        assert all(v.sharding is not None for v in graph.variables)
        assert parts_of(graph.outputs[0].sharding, 2) == parts_of(NamedSharding(MESH, spec), 2)
        assert not graph.outputs[0].loose
    lay_out_graph(trace(), [None])
    assert len(asked) == 2
