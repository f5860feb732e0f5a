# pyright: reportUnknownMemberType=false
"""Programs inside operations, followed as the graph around them is: what custom rules, loops and branches do to axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from ckptgrad.autodiff.linearity import pulled_back_linearly
from ckptgrad.axes.chunked import Chunkable, chunkable, run_steps
from ckptgrad.axes.cut import Chunk, Split, State
from ckptgrad.axes.statements import Passage
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import apply, like_aval, read
from ckptgrad.graph.graph import Graph, Operation, Variable


@dataclass(frozen=True)
class Followed:
    """A program of which some inputs are cut.

    Attributes:
        operands: for each input the axis along which it is cut; None where it is read whole.
        results: what a chunk makes of each output.
        run: from the inputs of a chunk to its outputs.
    """

    operands: tuple[int | None, ...]
    results: tuple[State, ...]
    run: Callable[[Sequence[Array], Chunk], list[Array]]


def followed(graph: Graph, cuts: Sequence[int | None], size: int) -> Followed | None:
    """A program of which inputs are cut along axes into so many entries; None where its parts do not suffice.

    All that a chunk runs must be inside: nothing is sliced from what is made before, and nothing is made of sums. What does
    not depend on the cut is run by each chunk, so that its gradient of the chunk's cotangent must be a summand.
    """
    start = {v: axis for v, axis in zip(graph.inputs, cuts, strict=True) if axis is not None}
    found = chunkable(graph, start, size)
    if found is None or found.after or any(v not in graph.inputs for v in found.sliced):
        return None
    sliced = {**start, **found.sliced}
    if any(v in sliced for op in found.before for v in op.inputs if isinstance(v, Variable)):
        return None
    if not all(map(pulled_back_linearly, found.before)):
        return None
    return Followed(
        tuple(sliced.get(v) for v in graph.inputs),
        tuple(_state(found, sliced, a) for a in graph.outputs),
        lambda values, chunk: _run(found, values, chunk),
    )


def _state(found: Chunkable, sliced: Mapping[Variable, int], atom: Any) -> State:
    if not isinstance(atom, Variable):
        return None
    return Split(sliced[atom]) if atom in sliced else found.outputs.get(atom)


def _run(found: Chunkable, values: Sequence[Array], chunk: Chunk) -> list[Array]:
    env: dict[Variable, Any] = {**found.graph.constants, **dict(zip(found.graph.inputs, values, strict=True))}
    for op in found.before:
        env.update(zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True))
    run_steps(found.steps, env, chunk)
    return [read(env, a) for a in found.graph.outputs]


def typed_outputs(graph: Graph, values: Sequence[Array]) -> list[Array]:
    """Outputs as arrays, weakly typed where those of the program are: loops and branches need them alike."""
    pairs = zip(values, graph.outputs, strict=True)
    return [like_aval(v if hasattr(v, "dtype") else jnp.asarray(v, a.aval.dtype), a.aval) for v, a in pairs]


@dataclass(frozen=True)
class Followable:
    """A primitive that runs programs.

    Attributes:
        follow: from an operation, the axes along which its operands are cut and the number of entries to its passage.
    """

    follow: Callable[[Operation, Sequence[int | None], int], Passage | None]

    def forward(self, op: Operation, states: Sequence[int | None], size: int) -> Passage | None:
        return self.follow(op, states, size)

    def towards(self, op: Operation, result: int, axis: int, size: int) -> Passage | None:
        """Where cutting the operands of the result's shape along the same axis makes that part of it."""
        shape = op.outputs[result].aval.shape
        cuts = [axis if getattr(a.aval, "shape", None) == shape and isinstance(a, Variable) else None for a in op.inputs]
        if all(c is None for c in cuts):
            return None
        passage = self.follow(op, cuts, size)
        return passage if passage is not None and passage.results[result] == Split(axis) else None
