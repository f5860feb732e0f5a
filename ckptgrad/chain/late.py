"""The order of operations: what is made of arguments alone for one reader stands right before it.

Parameters are often cast, gathered or reshaped together at first (`jax.tree.map(lambda w: w.astype(dtype), params)`).
What is made of them would cross every cut up to its reader, while the arguments are there anyway.
"""

from __future__ import annotations

from ckptgrad.graph.graph import Graph, Operation, Variable, variables_of
from ckptgrad.graph.spread import is_transfer
from ckptgrad.graph.traits import is_materialised


def made_late(graph: Graph) -> Graph:
    """The graph with cheap operations on arguments moved to their reader, where they have one; as it is if there are none.

    Regions that the user marked as stages keep what they hold: such a graph is left as it is.
    """
    if graph.stage_marks:
        return graph
    place = _places(graph)
    if not place:
        return graph
    order = {op: (place.get(op, k), op not in place, k) for k, op in enumerate(graph.operations)}
    return Graph(graph.inputs, graph.outputs, sorted(graph.operations, key=order.__getitem__), graph.constants)


def _places(graph: Graph) -> dict[Operation, int]:
    """For each operation that moves the position of what reads it."""
    position = {op: k for k, op in enumerate(graph.operations)}
    given: set[Variable] = {*graph.inputs, *graph.constants}
    returned = {*graph.outputs}
    movable: list[Operation] = []
    for op in graph.operations:
        if op.effects or (is_materialised(op) and not is_transfer(op)) or not given.issuperset(variables_of(op.inputs)):
            continue
        if len(op.outputs) == 1 and op.outputs[0] not in returned and len(graph.consuming_operations(op.outputs[0])) == 1:
            movable.append(op)
            given.update(op.outputs)
    place: dict[Operation, int] = {}
    for op in reversed(movable):
        (reader,) = graph.consuming_operations(op.outputs[0])
        place[op] = place.get(reader, position[reader])
    return place
