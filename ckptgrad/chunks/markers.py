"""Loops over chunks as operations of a joint graph: markers while it is traced, and what runs in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.chunks.costs import Turn, backward_turn, forward_turn, one_pass_turn
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.loops.running import Running, defined_by, marker
from ckptgrad.rules.subgraphs import calls_custom_vjp
from ckptgrad.stage.joint import Joint
from ckptgrad.target.roofline import Roofline

FORWARD, BACKWARD, ONE_PASS = "chunks_forward", "chunks_backward", "chunks_in_one_pass"


def _strong(v: Variable) -> Any:
    return v.aval.update(weak_type=False)


def _results(loop: ChunkLoop) -> list[Any]:
    return [*map(_strong, loop.results)]


def _gradients(loop: ChunkLoop) -> list[Any]:
    return [_strong(v) for v, flows in zip(loop.operands, loop.flowing, strict=True) if flows]


forward_p = marker(FORWARD, lambda *_, loop: _results(loop))
backward_p = marker(BACKWARD, lambda *_, loop: _gradients(loop))
one_pass_p = marker(ONE_PASS, lambda *_, loop: [*_results(loop), *_gradients(loop)])


@dataclass(frozen=True)
class Floors:
    """Seconds of a stage run whole: loops over chunks are not taken to be any faster.

    Attributes:
        forward, backward: of its forward, and of its backward, which runs it forward again.
        one_pass: of both, each operation once.
    """

    forward: float = 0.0
    backward: float = 0.0
    one_pass: float = 0.0


def loop_of(op: Operation) -> ChunkLoop | None:
    """The loop that an operation runs forward; None for every other operation."""
    return op.params["loop"] if op.name == FORWARD else None


def gradients_of(op: Operation) -> list[Variable]:
    """The gradients that a loop makes and carries in their own dtype; none of other operations."""
    if op.name not in (BACKWARD, ONE_PASS):
        return []
    loop: ChunkLoop = op.params["loop"]
    axes = [axis for axis, flows in zip(loop.axes, loop.flowing, strict=True) if flows]
    made = zip(op.outputs[len(op.outputs) - len(axes) :], axes, strict=True)
    return [v for v, axis in made if axis is not None or loop.summed_in(v) == v.dtype]


def begun_with(op: Operation, totals: Mapping[int, Variable]) -> Operation:
    """A loop that adds gradients to totals, in place of zeros.

    Args:
        op: one whose gradients these are (`gradients_of`).
        totals: by the positions of its results.
    """
    loop: ChunkLoop = op.params["loop"]
    run = {BACKWARD: _backward_of, ONE_PASS: _one_pass_of}[op.name](loop, tuple(totals))
    inputs = (*op.inputs, *totals.values())
    running = Running(op.name, run)
    return Operation(running, inputs, op.outputs, op.params, op.source_info, op.context, known_cost=op.known_cost)


_TURNS: dict[str, Callable[[ChunkLoop], Turn]] = {FORWARD: forward_turn, BACKWARD: backward_turn, ONE_PASS: one_pass_turn}


def with_costs(joint: Joint, roofline: Roofline, floors: Floors) -> Joint:
    """A joint graph with chunk loops that run, and say what that costs.

    Args:
        joint: with markers.
        roofline: the rates by which they are timed.
        floors: their least seconds.
    """
    if any(op.primitive is one_pass_p for op in joint.operations):
        floors = replace(floors, forward=0.0)  # What else loops there makes a few totals.
    return replace(joint, operations=tuple(_running(op, roofline, floors) for op in joint.operations))


def _running(op: Operation, roofline: Roofline, floors: Floors) -> Operation:
    kinds: dict[Any, tuple[str, Callable[[ChunkLoop], Any], float]] = {
        forward_p: (FORWARD, _forward_of, floors.forward),
        backward_p: (BACKWARD, _backward_of, floors.backward),
        one_pass_p: (ONE_PASS, _one_pass_of, floors.one_pass),
    }
    if op.primitive not in kinds:
        return op
    name, run, floor = kinds[op.primitive]
    loop: ChunkLoop = op.params["loop"]
    cost = _TURNS[name](loop).cost(loop, roofline)
    cost = replace(cost, seconds=max(cost.seconds, floor))
    running = Running(name, run(loop))
    return Operation(running, op.inputs, op.outputs, {"loop": loop}, op.source_info, op.context, known_cost=cost)


def _forward_of(loop: ChunkLoop) -> Any:
    def definition(*operands: Any) -> list[Any]:
        return loop.applied(loop.found.size)(*operands)

    reverse = calls_custom_vjp(loop.applied(loop.entries))
    return defined_by(loop.forward, definition, range(len(loop.operands)), reverse)


def _backward_of(loop: ChunkLoop, begun: Sequence[int] = ()) -> Any:
    count, given = len(loop.operands), len(loop.operands) + sum(loop.seeded)

    def run(*inputs: Any) -> list[Any]:
        return loop.backward(*inputs[:given], begun=dict(zip(begun, inputs[given:], strict=True)))

    def definition(*inputs: Any) -> list[Any]:
        made = loop.pulled_back(loop.found.size, inputs[:count], inputs[count:given])
        return _added(made, begun, inputs[given:])

    part = loop.backward_part(loop.entries).backward_run
    joint = loop.joint(loop.entries)
    reverse = calls_custom_vjp(Graph(part.reads, part.makes, part.operations, joint.constants))
    return defined_by(run, definition, range(given + len(begun)), reverse)


def _one_pass_of(loop: ChunkLoop, begun: Sequence[int] = ()) -> Any:
    given = len(loop.operands) + sum(loop.seeded)

    def run(*inputs: Any) -> list[Any]:
        return loop.in_one_pass(*inputs[:given], begun=dict(zip(begun, inputs[given:], strict=True)))

    def definition(*inputs: Any) -> list[Any]:
        return _added(loop.both(loop.found.size)(*inputs[:given]), begun, inputs[given:])

    reverse = calls_custom_vjp(loop.both(loop.entries))
    return defined_by(run, definition, range(given + len(begun)), reverse)


def _added(made: Sequence[Any], begun: Sequence[int], totals: Sequence[Any]) -> list[Any]:
    """What a loop makes, some of it added to totals."""
    added = dict(zip(begun, totals, strict=True))
    return [jnp.add(added[k], x) if k in added else x for k, x in enumerate(made)]
