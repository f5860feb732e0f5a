"""Merging of common subexpressions in a Graph."""

from __future__ import annotations

from ckptgrad.graph.fingerprint import Key, atom_key, operation_key
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable


def merge_common(graph: Graph) -> Graph:
    """The same graph with each pure computation done once, where it stands first."""
    alias: dict[Variable, Variable] = {}
    number: dict[Variable, int] = {}
    seen: dict[Key, Operation] = {}
    operations: list[Operation] = []

    def resolve(atom: Atom) -> Atom:
        return alias.get(atom, atom) if isinstance(atom, Variable) else atom

    for v in (*graph.inputs, *graph.constants):
        number[v] = len(number)
    for op in graph.operations:
        inputs = [resolve(a) for a in op.inputs]
        if any(new is not old for new, old in zip(inputs, op.inputs, strict=True)):
            op = op.replace(inputs, op.outputs)
        key = (operation_key(op), tuple(atom_key(a, number) for a in inputs))
        first = None if op.effects else seen.setdefault(key, op)
        if first is None or first is op:
            operations.append(op)
            for v in op.outputs:
                number[v] = len(number)
        else:
            alias.update(zip(op.outputs, first.outputs, strict=True))
    outputs = [resolve(a) for a in graph.outputs]
    return Graph(graph.inputs, outputs, operations, graph.constants, ())
