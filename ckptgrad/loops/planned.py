"""Loops of which a plan says how they are reversed.

While a stage is differentiated, a loop stands in its joint graph as two operations, `loop_forward` and `loop_backward`,
with a token between them for what the first stores for the second.  `with_plans` puts a plan in: the token becomes the
arrays that the plan stores, and the operations run it.  What a plan does to memory and time is thus seen in the graph
before anything is traced again.

A planned loop is differentiated again by its definition, the plain loop with custom rules applied: what is stored is a
function of the operands, and the derivative flows through these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray

from ckptgrad.autodiff.reach import operands_reaching
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.graph.graph import Atom, KnownCost, Operation, Variable
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.plain import reverse_plainly
from ckptgrad.loops.reversals.reversal import Candidate, Reversal
from ckptgrad.loops.running import Running, defined_by, marker
from ckptgrad.rules.subgraphs import some
from ckptgrad.stage.joint import Joint

FORWARD, BACKWARD = "loop_forward", "loop_backward"


def _token() -> ShapedArray:
    return ShapedArray((), jnp.dtype(jnp.float32))


_forward_p = marker(FORWARD, lambda *_, loop: [*loop.out_avals, _token()])
_backward_p = marker(
    BACKWARD,
    lambda *_, loop, present: [
        a.update(weak_type=False) for a, d in zip(loop.operand_avals, loop.differentiated, strict=True) if d
    ],
)


def left_open(loop: Loop, operands: Sequence[Any]) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Results of a loop and its pullback, how it is reversed being left to a plan."""
    *results, token = _forward_p.bind(*operands, loop=loop)

    def pull(*cotangents: Any) -> list[Any]:
        present = tuple(ct is not None for ct in cotangents)
        known = [ct for ct in cotangents if ct is not None]
        return some(loop.differentiated, _backward_p.bind(*operands, token, *known, loop=loop, present=present))

    return results, pull


def is_open_forward(op: Operation) -> bool:
    """Whether an operation is a loop that is left open."""
    return op.primitive is _forward_p


def is_open_backward(op: Operation) -> bool:
    """Whether an operation is the backward of a loop that is left open."""
    return op.primitive is _backward_p


def open_loops(joint: Joint) -> list[Loop]:
    """The loops in a joint graph that are left open, in order."""
    return [op.params["loop"] for op in joint.operations if is_open_forward(op)]


def with_plans(joint: Joint, plans: Mapping[Loop, Candidate]) -> Joint:
    """The joint graph with plans for its open loops, by loop.  Variables stay the same, but for the tokens."""
    stored: dict[Atom, list[Variable]] = {}
    operations = []
    for op in joint.operations:
        loop: Any = op.params.get("loop")
        if is_open_forward(op):
            plan = plans[loop]
            *results, token = op.outputs
            stored[token] = plan.reversal.stored(loop)
            run = Running(FORWARD, forward_of(plan.reversal, loop))
            carried = tuple(range(loop.body.num_carry))
            cost = KnownCost(plan.forward_seconds, plan.forward_bytes, plan.forward_course, carried, plan.inside_forward)
            op = _running(run, op, op.inputs, [*results, *stored[token]], cost)
        elif is_open_backward(op):
            plan, count = plans[loop], len(loop.operand_avals)
            operands, token, cotangents = op.inputs[:count], op.inputs[count], op.inputs[count + 1 :]
            run = Running(BACKWARD, _backward_of(plan.reversal, loop, op.params["present"], len(stored[token])))
            inputs = [*operands, *stored[token], *cotangents]
            carried = _carried_gradients(loop)
            cost = KnownCost(plan.backward_seconds, plan.backward_bytes, plan.backward_course, carried, plan.inside_backward)
            op = _running(run, op, inputs, op.outputs, cost)
        operations.append(op)
    return replace(joint, operations=tuple(operations))


def stored_by(joint: Joint) -> dict[Loop, list[Variable]]:
    """For each planned loop what its forward stores for its backward."""
    stored: dict[Loop, list[Variable]] = {}
    for op in joint.operations:
        if isinstance(op.primitive, Running) and op.name == FORWARD:
            loop: Loop = op.params["loop"]
            stored[loop] = list(op.outputs[len(loop.out_avals) :])
    return stored


def _carried_gradients(loop: Loop) -> tuple[int, ...]:
    """The positions, among the gradients of the operands, of those of the initial state."""
    operands = [k for k, d in enumerate(loop.differentiated) if d]
    first = loop.offset + loop.body.num_consts
    return tuple(i for i, k in enumerate(operands) if first <= k < first + loop.body.num_carry)


def _running(run: Running, op: Operation, inputs: Sequence[Any], outputs: Sequence[Variable], cost: KnownCost) -> Operation:
    params = {"loop": op.params["loop"]}
    return Operation(run, inputs, outputs, params, op.source_info, op.context, known_cost=cost)


def forward_of(reversal: Reversal[Any], loop: Loop) -> Callable[..., list[Any]]:
    """From operands to results and what is stored, differentiated as the plain loop."""
    reversal.check(loop)

    def run(*operands: Any) -> list[Any]:
        results, stored = reversal.forward(loop, operands)
        return [*results, *stored]

    def definition(*operands: Any) -> list[Any]:
        return list(loop.definition_again(*operands))

    return _without_idle(loop, defined_by(run, definition, range(len(loop.operand_avals)), loop.has_custom_vjp))


def _backward_of(reversal: Reversal[Any], loop: Loop, present: Sequence[bool], stored: int) -> Callable[..., list[Any]]:
    """From operands, what is stored and the cotangents that are present to gradients, differentiated as the plain loop."""
    count = len(loop.operand_avals)

    def differentiated(gradients: Sequence[Any | None]) -> list[Any]:
        return [g for g, d in zip(gradients, loop.differentiated, strict=True) if d]

    def run(*inputs: Any) -> list[Any]:
        operands, kept, cotangents = inputs[:count], inputs[count : count + stored], inputs[count + stored :]
        return differentiated(reversal.backward(loop, operands, kept, some(present, cotangents)))

    def definition(*xs: Any) -> list[Any]:
        return differentiated(reverse_plainly(loop, xs[:count])[1](*some(present, xs[count:])))

    read = [*range(count), *range(count + stored, count + stored + sum(present))]
    return _without_idle(loop, defined_by(run, definition, read, loop.has_custom_vjp))


def _without_idle(loop: Loop, run: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """`run`, without a derivative towards operands on which no result depends: these may have no forward mode."""
    body = loop.body
    moving = [False] * loop.offset + operands_reaching(body.graph, body.num_consts, body.num_carry)

    def without(*inputs: Any) -> list[Any]:
        operands = [
            x if m or not is_differentiable(a) else lax.stop_gradient(x)
            for x, m, a in zip(inputs, moving, loop.operand_avals, strict=False)
        ]
        return run(*operands, *inputs[len(operands) :])

    return without
