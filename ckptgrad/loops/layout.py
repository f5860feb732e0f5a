# pyright: reportUnknownMemberType=false
"""Where the values of a joint graph lie on several devices, those inside its open loops among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Atom, Operation, Variable
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.plain import reverse_plainly
from ckptgrad.loops.planned import is_open_backward, is_open_forward
from ckptgrad.rules.subgraphs import some
from ckptgrad.stage.joint import Joint
from ckptgrad.target.laid_out import lay_out


def lay_out_joint(joint: Joint, known: Mapping[Variable, NamedSharding | None]) -> None:
    """Set the shardings of the values of a joint graph (`target.laid_out`), and of the steps of its open loops.

    Args:
        joint: the joint graph, its loops left open.
        known: the shardings that are known; those of captured arrays are.
    """
    constants = {v: _sharding(x) for v, x in joint.constants.items()}
    inputs = (*joint.inputs, *joint.cotangents, *joint.constants)
    lay_out(joint.operations, inputs, {**constants, **known}, _apply_plainly)
    for op in joint.operations:
        if is_open_forward(op):
            _lay_out_step(op)


def _sharding(value: Any) -> NamedSharding | None:
    sharding = getattr(value, "sharding", None) if isinstance(value, jax.Array) else None
    return sharding if isinstance(sharding, NamedSharding) else None


def _apply_plainly(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """Run an operation; an open loop as it runs without a plan: which plan it gets does not change what lies where."""
    loop: Loop
    if is_open_forward(op):
        loop = op.params["loop"]
        return [*loop.definition(*inputs), jnp.float32(0)]
    if is_open_backward(op):
        loop, count = op.params["loop"], len(op.params["loop"].operand_avals)
        cotangents = some(op.params["present"], inputs[count + 1 :])
        gradients = reverse_plainly(loop, inputs[:count])[1](*cotangents)
        return [g for g, d in zip(gradients, loop.differentiated, strict=True) if d]
    return apply(op, inputs)


def _lay_out_step(op: Operation) -> None:
    """Set the shardings inside a step of a loop: of what is carried from what comes out, of the rest from the operands."""
    loop: Loop = op.params["loop"]
    body, joint = loop.body, loop.body.joint
    n, c = body.num_consts, body.num_carry
    operands = op.inputs[loop.offset :]
    consts = [a.sharding for a in operands[:n]]
    carry = [v.sharding for v in op.outputs[:c]]
    stacked_in = [_of_entry(a) for a in operands[n + c :]]
    stacked_out = [_of_entry(v) for v in op.outputs[c:-1]]
    cotangents = [
        *(carry[i] for i in body.active_carry),
        *(stacked_out[i] for i in body.active_ys),
        *(consts[body.active_consts[k]] for k in body.indexed),
    ]
    pairs: list[tuple[Atom, NamedSharding | None]] = [
        *zip(joint.outputs, [*carry, *stacked_out], strict=True),
        *zip(joint.inputs, [*consts, *carry, *stacked_in], strict=True),
        *zip(joint.cotangents, cotangents, strict=True),
    ]
    lay_out_joint(joint, {v: sharding for v, sharding in pairs if isinstance(v, Variable)})


def _of_entry(stack: Atom) -> NamedSharding | None:
    """The sharding of one entry of a stack."""
    if stack.sharding is None:
        return None
    return NamedSharding(stack.sharding.mesh, PartitionSpec(*stack.sharding.spec[1:]))
