"""Runs of stages that are one stage where they may run over chunks of an axis: no boundary is held inside of them.

A stage over chunks holds little inside, but all of its boundary, and the cotangents of both.  Where that is more than what
one chunk of a whole run of stages holds from its beginning to its end (a few layers of convolutions on many images, say),
the run is better one stage: its chunks are microbatches, and nothing of a layer is ever there for all entries at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ckptgrad.axes.chunked import Chunkable
from ckptgrad.chain.cut import crossing_bytes
from ckptgrad.chunks.candidates import MOST_CHUNKS, cuttable
from ckptgrad.graph.graph import Graph, Operation, Variable, variables_of
from ckptgrad.graph.traits import is_same_numbers
from ckptgrad.target.target import Target

# What a stage over chunks holds at a boundary: that before it, and the cotangents of both.
HELD = 3


def cuts_of_runs(graph: Graph, target: Target, cuts: Sequence[int], parameters: Collection[Variable]) -> list[int]:
    """The cuts that are left between runs of stages for which it may be better to be one; all of them if there are none.

    Args:
        graph: the whole forward graph.
        target: what it is compiled for.
        cuts: positions at which a stage ends, ascending.
        parameters: inputs along whose axes runs are not cut.
    """
    if not cuts or graph.stage_marks:
        return [*cuts]
    runs = _Runs(graph, target, parameters)
    edges = [0, *cuts, len(graph.operations)]
    if runs.are_better(edges):
        return []
    left: list[int] = []
    start = 0
    for end in range(2, len(edges)):
        if not runs.are_better(edges[start : end + 1]):
            left.append(edges[end - 1])
            start = end - 1
    return left


class _Runs:
    def __init__(self, graph: Graph, target: Target, parameters: Collection[Variable]) -> None:
        self.graph, self.target, self.parameters = graph, target, {*parameters}
        self.crossing = crossing_bytes(graph, target)

    def are_better(self, edges: Sequence[int]) -> bool:
        """Whether stages that end at these positions hold less as one: all that a chunk makes counts as held."""
        start, *inside, end = edges
        held = HELD * max(self.crossing[p] for p in inside)
        run = self.graph.operations[start:end]
        if self._made(run) > held * MOST_CHUNKS:
            return False
        return any(self._inside(found) <= held for found in cuttable(self._part(start, end), (), self.parameters))

    def _inside(self, found: Chunkable) -> int:
        """Bytes that the operations of a run make for a chunk, and those that make what all chunks need."""
        return self._made((*found.before, *found.after)) + self._made(found.inside) // min(found.size, MOST_CHUNKS)

    def _made(self, operations: Iterable[Operation]) -> int:
        return self.target.total_bytes(
            v for op in operations if not is_same_numbers(op) and op.name != "copy" for v in op.outputs
        )

    def _part(self, start: int, end: int) -> Graph:
        operations = self.graph.operations[start:end]
        made = {v for op in operations for v in op.outputs}
        inputs = dict.fromkeys(v for op in operations for v in variables_of(op.inputs) if v not in made)
        outside = [*self.graph.operations[:start], *self.graph.operations[end:]]
        read = {v for op in outside for v in variables_of(op.inputs)} | {*variables_of(self.graph.outputs)}
        outputs = [v for op in operations for v in op.outputs if v in read]
        return Graph(tuple(inputs), tuple(outputs), operations)
