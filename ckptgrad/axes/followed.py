"""Where the axes of a graph's inputs go: by which name users know an axis inside, and which ones they asked to leave whole.

An axis is followed as far as it is proved that entries correspond; where that ends, as at the edge of a slice or in a sum of
all entries before, an axis in the same place of a result of as many dimensions is taken to be of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from ckptgrad.axes.cut import Split
from ckptgrad.axes.statements import Passage, axes_of
from ckptgrad.graph.graph import Operation, Variable

T = TypeVar("T")
Place: TypeAlias = tuple[Variable, int]


def followed(operations: Iterable[Operation], start: Mapping[Place, T], merged: bool = False) -> dict[Place, dict[T, None]]:
    """For each axis of each value the marks that reach it, those of earlier operands first.

    Args:
        operations: in order.
        start: a mark for each of some axes of what they read.
        merged: whether a mark also reaches an axis that may be several ones together, of which one has it.
    """
    known: dict[Place, dict[T, None]] = {place: {mark: None} for place, mark in start.items()}
    for op in operations:
        for k, v in enumerate(op.inputs):
            for axis in range(len(getattr(v.aval, "shape", ()))) if isinstance(v, Variable) else ():
                marks = known.get((v, axis)) if isinstance(v, Variable) else None
                for place in _reached(op, k, axis, merged) if marks else ():
                    known.setdefault(place, {}).update(marks or {})
    return known


def _reached(op: Operation, operand: int, axis: int, merged: bool) -> list[Place]:
    """The axes of results to which an axis of one operand goes."""
    shape = op.inputs[operand].aval.shape
    passage = _passage(op, operand, axis, shape[axis])
    if passage is not None:
        pairs = zip(op.outputs, passage.results, strict=True)
        return [(v, state.axis) for v, state in pairs if isinstance(state, Split)]
    places: list[Place] = []
    for v in op.outputs:
        found = getattr(v.aval, "shape", ())
        places += [(v, axis)] if len(found) == len(shape) else []
        if merged and shape[axis] > 1:
            places += [(v, d) for d, n in enumerate(found) if n and n % shape[axis] == 0]
    return list(dict.fromkeys(places))


def _passage(op: Operation, operand: int, axis: int, size: int) -> Passage | None:
    axes = axes_of(op)
    states = [axis if k == operand else None for k in range(len(op.inputs))]
    return None if axes is None or size < 2 else axes.forward(op, states, size)
