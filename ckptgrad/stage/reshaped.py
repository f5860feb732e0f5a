"""Boundaries that are reshapes of what a backward reads.

Where a value and its reshape are one buffer (`Platform.reshapes_in_place`), a backward that reads a value of which the
outgoing boundary is a reshape reads it from the boundary, and nothing is kept besides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.graph.value_types import explicit_sharding
from ckptgrad.stage.joint import Joint


def read_from_boundaries(joint: Joint, boundary: Collection[Variable]) -> Joint:
    """The same joint graph, whose backward reads from boundaries what was reshaped to them."""
    makers = {v: op for op in joint.forward_operations for v in op.outputs}
    back: dict[Operation, Operation] = {}
    seen: dict[Variable, Variable] = {}
    for v in boundary:
        source = v
        while source in makers and _is_plain_reshape(makers[source]):
            (source,) = makers[source].inputs
        if source in makers and source is not v and source not in seen:
            seen[source] = Variable(source.aval)
            back[makers[v]] = makers[v].with_params(new_sizes=source.shape).replace([v], [seen[source]])
    if not seen:
        return joint
    # The others are the backward's, whether they depend on a cotangent or not.
    of_outputs = {*needed_operations(joint.forward_operations, joint.outputs)}
    operations: list[Operation] = []
    there: set[Variable] = set()
    for op in joint.operations:
        inputs = [seen[a] if isinstance(a, Variable) and seen.get(a) in there else a for a in op.inputs]
        changed = op not in of_outputs and any(new is not old for new, old in zip(inputs, op.inputs, strict=True))
        operations.append(op.replace(inputs, op.outputs) if changed else op)
        if op in back:
            operations.append(back[op])
            there.update(back[op].outputs)
    return replace(joint, operations=tuple(operations))


def _is_plain_reshape(op: Operation) -> bool:
    """Whether the elements of an array stay in their order, on one device."""
    if op.name != "reshape" or op.params["dimensions"] is not None or not isinstance(op.inputs[0], Variable):
        return False
    return all(explicit_sharding(v.aval) is None for v in (op.inputs[0], op.outputs[0]))
