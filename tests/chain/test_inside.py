"""What a stage holds inside, as its estimate counts it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.chain.inside import held_in_backward, held_in_forward


def loss(ws, x):
    for a, b in ws:
        x = x + jnp.tanh(x @ a) @ b
    return (x**2).mean()


def test_values_inside_are_neither_read_nor_passed_on():
    wide, narrow = jax.ShapeDtypeStruct((16, 64), jnp.float32), jax.ShapeDtypeStruct((64, 16), jnp.float32)
    program = cg.plan(loss, [(wide, narrow)] * 3, jax.ShapeDtypeStruct((128, 16), jnp.float32)).program
    kind = program.stages[-1].kind
    input_alone = kind.options[-1]
    passed = {*kind.joint.inputs, *kind.outputs_kept, *kind.crossing}
    forward, backward = held_in_forward(kind, None), held_in_backward(kind, input_alone)
    assert passed.isdisjoint([*forward, *backward])
    assert (128, 64) in {v.shape for v in forward}
    assert (128, 64) in {v.shape for v in backward}
