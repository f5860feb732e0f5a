"""Statements that many primitives share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ckptgrad.axes.cut import Chunk, State
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.graph.graph import Operation


def rank(atom: Any) -> int:
    return len(atom.aval.shape)


def _elementwise(op: Operation) -> Links | None:
    """Each place on its own; a scalar or an axis of size one beside a longer one serves all places."""
    if any(op.params.get(name) is not None for name in ("sharding", "out_sharding")):
        return None
    shape = op.outputs[0].aval.shape
    if any(v.aval.shape != shape for v in op.outputs):
        return None
    operands: list[list[int | None]] = []
    for a in op.inputs:
        own = a.aval.shape
        if own and len(own) != len(shape):
            return None
        operands.append([d if n == shape[d] else None for d, n in enumerate(own)])
    return Links(operands, [range(len(shape))] * len(op.outputs))


elementwise = Linked(_elementwise)


def blocked(axes: Callable[[Operation], Sequence[int]]) -> Linked:
    """Every result has the axes of the operands; those given are needed whole."""

    def links(op: Operation) -> Links | None:
        whole = {d % rank(op.inputs[0]) for d in axes(op)} if rank(op.inputs[0]) else set[int]()
        if len({rank(a) for a in (*op.inputs, *op.outputs)}) != 1:
            return None
        labels = [None if d in whole else d for d in range(rank(op.inputs[0]))]
        return Links([labels] * len(op.inputs), [labels] * len(op.outputs))

    return Linked(links)


def folded(axes: Callable[[Operation], Sequence[int]], summed: bool = False) -> Linked:
    """Some axes are folded away: those of a sum may be cut, all chunks' results are then added."""

    def links(op: Operation) -> Links | None:
        if op.params.get("out_sharding") is not None:
            return None
        n, gone = rank(op.inputs[0]), set(axes(op))
        labels = [d if d not in gone or summed else None for d in range(n)]
        left = [d for d in range(n) if d not in gone]
        return Links([labels] * len(op.inputs), [left] * len(op.outputs), frozenset(gone) if summed else frozenset())

    return Linked(links)


def placed(shape: Sequence[int], state: State, chunk: Chunk) -> tuple[int, ...]:
    """A shape among parameters, for a chunk."""
    return chunk.shape(tuple(shape), state)


def sized(name: str) -> Callable[[Operation, Sequence[State], Sequence[State], Chunk], Mapping[str, Any]]:
    """Parameters in which the shape of the first result stands under a name."""
    return lambda op, operands, results, chunk: {name: placed(op.params[name], results[0], chunk)}
