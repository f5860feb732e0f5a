"""Loops over chunks as operations of a joint graph: markers while it is traced, and what runs in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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


def _backward_of(loop: ChunkLoop) -> Any:
    count = len(loop.operands)

    def definition(*inputs: Any) -> list[Any]:
        return loop.pulled_back(loop.found.size, inputs[:count], inputs[count:])

    run = loop.backward_part(loop.entries).backward_run
    joint = loop.joint(loop.entries)
    reverse = calls_custom_vjp(Graph(run.reads, run.makes, run.operations, joint.constants))
    return defined_by(loop.backward, definition, range(count + sum(loop.seeded)), reverse)


def _one_pass_of(loop: ChunkLoop) -> Any:
    def definition(*inputs: Any) -> list[Any]:
        return loop.both(loop.found.size)(*inputs)

    reverse = calls_custom_vjp(loop.both(loop.entries))
    return defined_by(loop.in_one_pass, definition, range(len(loop.operands) + sum(loop.seeded)), reverse)
