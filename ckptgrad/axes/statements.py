"""How a primitive treats the axes of its operands, stated beside its derivative rule (`axes=`).

A statement gives every axis of operands and results a label (`Links`): along axes of one label, entry i of the results needs
entry i of the operands alone.  An axis without a label is needed whole.  A label that no result has is summed over, where
the statement says so.  These are the factors of a sharding rule, as in OpenXLA's Shardy, of which one at a time is used.

What has no statement is not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jax.numpy as jnp
import numpy as np

from ckptgrad.axes.cut import Chunk, Partial, Split, State, may_be_cut
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Operation

Label: TypeAlias = Any
Labels: TypeAlias = Sequence[Label | None]


@dataclass(frozen=True)
class Passage:
    """How one operation passes a cut on.

    Attributes:
        operands: for each operand the axis along which a chunk reads a part of it; None: all of it.
        results: what a chunk makes of each result.
        run: from the operands of a chunk to its results.
    """

    operands: tuple[int | None, ...]
    results: tuple[State, ...]
    run: Callable[[Sequence[Array], Chunk], list[Array]]


class Axes(Protocol):
    """What a primitive does to axes."""

    def forward(self, op: Operation, states: Sequence[int | None], size: int) -> Passage | None:
        """The passage where some operands are cut along axes into so many entries; None where that is not proved."""
        ...

    def towards(self, op: Operation, result: int, axis: int, size: int) -> Passage | None:
        """The passage that makes a part of a result along an axis; None where all of the operands are needed."""
        ...


@dataclass(frozen=True)
class Links:
    """Labels of the axes of operands and results, and which of them are summed over."""

    operands: Sequence[Labels]
    results: Sequence[Labels]
    summed: frozenset[Label] = frozenset()


# New parameters of an operation for a chunk: of its own ones and the states of operands and results.
Resized: TypeAlias = Callable[[Operation, Sequence[State], Sequence[State], Chunk], Mapping[str, Any]]


def _unchanged(op: Operation, operands: Sequence[State], results: Sequence[State], chunk: Chunk) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Linked:
    """A primitive whose axes are linked by labels.

    Attributes:
        links: the labels for an operation; None where it is not to be cut.
        resized: parameters in which shapes stand, for a chunk.
    """

    links: Callable[[Operation], Links | None]
    resized: Resized = _unchanged

    def forward(self, op: Operation, states: Sequence[int | None], size: int) -> Passage | None:
        links = self.links(op)
        if links is None:
            return None
        found = {labels[a] for labels, a in zip(links.operands, states, strict=True) if a is not None}
        return self._along(op, links, found.pop(), size) if len(found) == 1 else None

    def towards(self, op: Operation, result: int, axis: int, size: int) -> Passage | None:
        links = self.links(op)
        return None if links is None else self._along(op, links, links.results[result][axis], size)

    def _along(self, op: Operation, links: Links, label: Label, size: int) -> Passage | None:
        if label is None:
            return None
        places = [_place(labels, label) for labels in (*links.operands, *links.results)]
        atoms = (*op.inputs, *op.outputs)
        if any(p is not None and not may_be_cut(a, p, size) for p, a in zip(places, atoms, strict=True)):
            return None
        count = len(op.inputs)
        operands = tuple(places[:count])
        results: list[State] = []
        for v, place in zip(op.outputs, places[count:], strict=True):
            if place is not None:
                results.append(Split(place))
            elif label in links.summed and jnp.issubdtype(v.dtype, np.number):
                results.append(Partial())
            else:
                return None
        states = [None if a is None else Split(a) for a in operands]

        def run(values: Sequence[Array], chunk: Chunk) -> list[Array]:
            return apply(op.with_params(**self.resized(op, states, results, chunk)), values)

        return Passage(operands, tuple(results), run)


def _place(labels: Labels, label: Label) -> int | None:
    return next((d for d, own in enumerate(labels) if own == label), None)


_STATED: dict[str, Axes] = {}


def state_axes(primitive: str, axes: Axes) -> None:
    """State how a primitive treats axes; the last statement holds."""
    _STATED[primitive] = axes


def axes_of(op: Operation) -> Axes | None:
    """What was stated for the primitive of an operation, if anything was."""
    return _STATED.get(op.name)
