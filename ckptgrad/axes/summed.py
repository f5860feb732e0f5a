# pyright: reportUnknownMemberType=false
"""Whether a scalar is a sum of what chunks of an axis make: a loss that is a sum or mean over examples.

What is done to the totals of a loop over chunks must be linear: then the scalar of all entries is the sum of those of
chunks, and so is its gradient. What does not depend on the cut and is added, a penalty on parameters say, is shared out:
each chunk adds its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax

from ckptgrad.axes.chunked import Chunkable, chunkable, run_steps
from ckptgrad.axes.cut import Chunk, Partial
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable

# Linear in one operand, of which there is one.
_UNARY = ("neg", "convert_element_type", "reshape", "squeeze", "copy")
_SUMS = ("add", "sub", "add_any")


@dataclass(frozen=True, eq=False)
class Summed:
    """A graph with one scalar output, which is a sum over chunks of an axis."""

    found: Chunkable

    def part(self, start: Any, entries: int, values: Sequence[Array]) -> Array:
        """The summand of the entries from `start` on.

        Args:
            start: the first of them, an integer.
            entries: how many.
            values: of the graph's inputs, all entries.
        """
        found, graph = self.found, self.found.graph
        env: dict[Variable, Any] = {**graph.constants, **dict(zip(graph.inputs, values, strict=True))}
        for op in found.before:
            env.update(zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True))
        inside = {v: self._cut(env[v], found.sliced.get(v), start, entries) for v in found.inputs}
        run_steps(found.steps, inside, Chunk(found.size, entries))
        env.update((v, inside[v]) for v in found.outputs)
        totals: set[Atom] = {*found.outputs}
        for op in found.after:
            env.update(zip(op.outputs, self._share(op, env, totals, entries / found.size), strict=True))
            totals.update(op.outputs)
        return read(env, graph.outputs[0])

    def _cut(self, value: Array, axis: int | None, start: Any, entries: int) -> Array:
        if axis is None:
            return value
        each = value.shape[axis] // self.found.size
        return lax.dynamic_slice_in_dim(value, start * each, entries * each, axis)

    def _share(self, op: Operation, env: Mapping[Variable, Any], totals: set[Atom], share: float) -> list[Array]:
        values = [read(env, a) for a in op.inputs]
        if op.name in _SUMS:
            pairs = zip(values, op.inputs, strict=True)
            values = [x if a in totals else jnp.multiply(x, jnp.asarray(share, a.aval.dtype)) for x, a in pairs]
        return apply(op, values)


def summed(graph: Graph, start: Mapping[Variable, int]) -> Summed | None:
    """How the one output of a graph is a sum over chunks of an axis; None where that is not proved.

    Args:
        graph: forward operations.
        start: as for `chunkable`.
    """
    if len(graph.outputs) != 1 or graph.outputs[0].aval.shape:
        return None
    found = chunkable(graph, start)
    if found is None or not all(isinstance(state, Partial) for state in found.outputs.values()):
        return None
    totals: set[Atom] = {*found.outputs}
    for op in found.after:
        if not _is_linear(op, totals):
            return None
        totals.update(op.outputs)
    return Summed(found) if graph.outputs[0] in totals else None


def _is_linear(op: Operation, totals: set[Atom]) -> bool:
    """Whether the result is linear in the totals among the operands, but for a term that does not depend on them."""
    among = [a in totals for a in op.inputs]
    if any(not jnp.issubdtype(a.aval.dtype, jnp.inexact) for a in (*op.inputs, *op.outputs)):
        return False
    if op.name in _UNARY:
        return True
    if op.name in _SUMS:
        return all(a.aval.shape == op.outputs[0].aval.shape for a in op.inputs)
    return (op.name == "mul" and among.count(True) == 1) or (op.name == "div" and among == [True, False])
