"""Where values inside loops lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.atoms import device_bytes
from ckptgrad.loops.candidates import loop_candidates
from ckptgrad.loops.layout import lay_out_joint
from ckptgrad.loops.planned import open_loops
from ckptgrad.stage.joint import joint
from ckptgrad.target.roofline import Roofline

MESH = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
ROWS, WIDTH, STEPS = 16, 6, 5


def scanned(ws, x):
    return jnp.sum(lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum(0)), x, ws)[0] ** 2)


def repeated(ws, x):
    return jnp.sum(lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.tanh(s[1] @ ws[0])), (0, x))[1] ** 2)


@pytest.mark.parametrize("fun", [scanned, repeated])
def test_what_is_carried_and_stored_lies_as_it_enters_and_leaves(fun):
    structs = jax.ShapeDtypeStruct((STEPS, WIDTH, WIDTH), jnp.float32), jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
    graph = cg.trace(fun, *structs)
    joined = joint(graph, graph.inputs, graph.outputs, planned=True)
    lay_out_joint(joined, {joined.inputs[1]: NamedSharding(MESH, P("data"))})
    (loop,) = open_loops(joined)
    rows = [v for v in loop.body.carry_inputs if v.shape == (ROWS, WIDTH)]
    assert [device_bytes(v) for v in rows] == [4 * ROWS // 4 * WIDTH]
    # Gradients of whole parameters are whole.
    assert [device_bytes(g) for g in joined.gradients] == [4 * STEPS * WIDTH * WIDTH, 4 * ROWS // 4 * WIDTH]
    for candidate in loop_candidates(loop, Roofline(cg.target("cpu")), None):
        states = [v for v in candidate.reversal.stored(loop) if v.shape[1:] == (ROWS, WIDTH)]
        assert all(device_bytes(v) == v.nbytes // 4 for v in states)
