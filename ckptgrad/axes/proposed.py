"""Axes worth trying: for each input those that prove, the ones first along which most of what is computed is cut."""

from __future__ import annotations

from collections.abc import Collection

from ckptgrad.axes.chunked import Chunkable, chunkable
from ckptgrad.axes.cut import Split
from ckptgrad.graph.atoms import aval_bytes
from ckptgrad.graph.graph import Graph, Variable

# What cuts less than this part of what the best axis does is not worth trying.
_WORTH = 4
# Of a graph with more axes than this those of parameters are not tried where others prove.
_MANY = 64


def proposals(graph: Graph, parameters: Collection[Variable] = ()) -> list[dict[Variable, int]]:
    """Starts for `chunkable` that prove, each axis once however many inputs it cuts; the best first.

    Where equally much is cut, that of an earlier input and the earlier axis come first: examples before tokens.

    Args:
        graph: forward operations.
        parameters: inputs that are tried last, and of a graph with very many axes only if no other proves.
    """
    known: set[tuple[Variable, int]] = set()
    found: list[tuple[int, dict[Variable, int]]] = []
    few = sum(len(getattr(v.aval, "shape", ())) for v in graph.inputs) <= _MANY
    order = graph.inputs if few else sorted(graph.inputs, key=lambda v: v in parameters)
    for v in order:
        if not few and found and v in parameters:
            break
        for axis, n in enumerate(getattr(v.aval, "shape", ())):
            if n < 2 or (v, axis) in known:
                continue
            result = chunkable(graph, {v: axis})
            if result is not None:
                known.update(result.sliced.items())
                found.append((bytes_cut(result), {v: axis}))
    least = max((total for total, _ in found), default=0) / _WORTH
    return [start for total, start in sorted(found, key=lambda pair: -pair[0]) if total >= least]


def bytes_cut(found: Chunkable) -> int:
    """The bytes of operands and results of which a chunk has a part, less those of the sums that it adds to."""
    total = sum(v.nbytes for v in found.sliced)
    for step in found.steps:
        for v, state in zip(step.op.outputs, step.passage.results, strict=True):
            total += aval_bytes(v.aval) if isinstance(state, Split) else -aval_bytes(v.aval)
    return total
