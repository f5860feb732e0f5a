"""A loop over chunks that makes results and gradients in one pass, where cotangents do not depend on the results.

The logits of a loss over a large vocabulary, say, are then made once. A total that the cotangents do depend on, a sum of
weights say, is made by a loop of its own before, unless that would repeat heavy work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.chunks.markers import backward_p, forward_p, one_pass_p
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_heavy
from ckptgrad.stage.joint import Joint


def in_one_pass(joint: Joint) -> Joint | None:
    """A joint graph with one loop in place of that forward and that backward; None where there is no such.

    Args:
        joint: with markers, of `chunks.chunked`.
    """
    forward = next((op for op in joint.operations if op.primitive is forward_p), None)
    backward = next((op for op in joint.operations if op.primitive is backward_p), None)
    if forward is None or backward is None:
        return None
    before = needed_operations(joint.operations, backward.inputs, effects=False)
    read = {v for op in (*before, backward) for v in variables_of(op.inputs)}
    totals = [v for v in forward.outputs if v in read]
    first = _making(forward, totals) if totals else None
    if totals and first is None:
        return None
    # In place of the totals that are there already.
    results = [Variable(v.aval, v.sharding) if v in totals else v for v in forward.outputs]
    both = Operation(
        one_pass_p, backward.inputs, [*results, *backward.outputs], backward.params, backward.source_info, backward.context
    )
    operations = _ordered(joint.operations, forward, first, backward, both)
    return replace(joint, operations=tuple(operations))


def _making(forward: Operation, totals: Sequence[Variable]) -> Operation | None:
    """A loop that makes some results only; None where that takes heavy work."""
    loop: ChunkLoop = forward.params["loop"]
    found = loop.found.making([v for v, own in zip(loop.results, forward.outputs, strict=True) if own in totals])
    if any(is_heavy(op) for op in found.inside):
        return None
    position = {v: k for k, v in enumerate(loop.operands)}
    none = tuple(False for _ in found.inputs), tuple(False for _ in found.outputs)
    inputs = [forward.inputs[position[v]] for v in found.inputs]
    light = {"loop": ChunkLoop(found, loop.entries, *none)}
    return Operation(forward_p, inputs, totals, light, forward.source_info, forward.context)


def _ordered(
    operations: Sequence[Operation], forward: Operation, first: Operation | None, backward: Operation, both: Operation
) -> list[Operation]:
    """The operations with `both` in place of `backward`, then those that depend on what the forward made."""
    early: list[Operation] = []
    late: list[Operation] = []
    awaited = {*forward.outputs} - {*(() if first is None else first.outputs)}
    for op in operations:
        if op is forward:
            early += [] if first is None else [first]
        elif op is backward:
            early.append(both)
        elif awaited.isdisjoint(op.inputs):
            early.append(op)
        else:
            late.append(op)
            awaited.update(op.outputs)
    return [*early, *late]
