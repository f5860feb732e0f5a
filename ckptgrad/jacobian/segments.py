"""The Jacobian of a graph as a product along its cuts.

Between any two operations the values that depend on the inputs and are still to be read form a
boundary, so every graph is a chain.  `cut_where_small` chooses the positions, `jacobian.bracketing` the
order of multiplication, and `evaluate_bracket` computes each factor when the sweep comes to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.autodiff.reverse import active_variables, backpropagate, forward
from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Graph, Operation, Variable, variables_of
from ckptgrad.graph.traits import is_product
from ckptgrad.graph.work import flops
from ckptgrad.jacobian.bracketing import Bracket
from ckptgrad.once import once

# A Jacobian is a product of at most this many factors.
MOST_STAGES = 40


@dataclass(frozen=True)
class Segment:
    """A part of the graph between two boundaries of active values; `unmoved` are the others that it reads."""

    graph: Graph
    inside: tuple[Variable, ...]
    outside: tuple[Variable, ...]
    unmoved: tuple[Variable, ...]

    @once
    def multiplications(self) -> int:
        """The multiplications of one tangent through the segment: one per active input of an elementwise operation."""
        active = active_variables(self.graph, self.inside)
        return sum(_multiplications(op, sum(a in active for a in op.inputs)) for op in self.graph.operations)


def _multiplications(op: Operation, active_inputs: int) -> int:
    if not active_inputs:
        return 0
    return active_inputs * flops(op) // (2 if is_product(op) else 1)


def size_of(variables: Sequence[Variable]) -> int:
    """How many numbers variables hold together."""
    return sum(math.prod(v.shape) for v in variables)


def cut_where_small(graph: Graph, wrt: Sequence[Variable], whole: bool = False) -> list[Segment]:
    """The graph as segments, cut where few active numbers cross; at most MOST_STAGES of them, a single one if `whole`."""
    active = active_variables(graph, wrt)
    targets = [a for a in variables_of(graph.outputs) if a in active]
    operations = needed_operations(graph.operations, targets)
    last = {v: k for k, op in enumerate(operations) for v in variables_of(op.inputs)}
    last.update(dict.fromkeys(targets, len(operations)))
    alive = dict.fromkeys(v for v in wrt if v in active and v in last)
    boundaries: list[tuple[Variable, ...]] = []
    work = []
    for k, op in enumerate(operations):
        touched = sum(a in active for a in op.inputs)
        work.append(_multiplications(op, touched))
        alive.update((v, None) for v in op.outputs if v in active and v in last)
        for v in (*variables_of(op.inputs), *op.outputs):
            if last.get(v, -1) <= k:
                alive.pop(v, None)
        boundaries.append(tuple(alive))
    start = tuple(v for v in wrt if v in active and v in last)
    if not operations:  # inputs that are returned as they are
        return [_segment(graph, [], start, dict.fromkeys(targets))] if targets else []
    segments, position, inside = [], 0, start
    for k in [*(() if whole else _positions(boundaries, work)), len(operations) - 1]:
        if k < position:
            continue
        outside = tuple(dict.fromkeys(targets)) if k == len(operations) - 1 else boundaries[k]
        segments.append(_segment(graph, operations[position : k + 1], inside, outside))
        position, inside = k + 1, outside
    return segments


def _positions(boundaries: Sequence[tuple[Variable, ...]], work: Sequence[int]) -> list[int]:
    """In each of MOST_STAGES blocks of equal work the position with the smallest boundary."""
    total, done = max(sum(work), 1), 0
    best: dict[int, tuple[int, int]] = {}
    for k, (boundary, w) in enumerate(zip(boundaries[:-1], work, strict=False)):
        done += w
        block = done * (MOST_STAGES - 1) // total
        best[block] = min(best.get(block, (size_of(boundary), k)), (size_of(boundary), k))
    return sorted(k for _, k in best.values())


def _segment(graph: Graph, operations: Sequence[Operation], inside: Any, outside: Any) -> Segment:
    made = {v for op in operations for v in op.outputs}
    reads = dict.fromkeys(v for op in operations for v in variables_of(op.inputs))
    unmoved = tuple(v for v in reads if v not in made and v not in inside)
    return Segment(Graph([*inside, *unmoved], outside, operations), tuple(inside), tuple(outside), unmoved)


class Values:
    """The values at every boundary, from one evaluation of the graph."""

    def __init__(self, graph: Graph, args: Sequence[Any], segments: Sequence[Segment]) -> None:
        env: dict[Variable, Any] = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
        kept = {v for s in segments for v in s.graph.inputs} | set(variables_of(graph.outputs))
        for op in graph.operations:
            env.update(zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True))
        self.outputs = [read(env, a) for a in graph.outputs]
        self.at = {v: x for v, x in env.items() if v in kept}

    def inputs(self, segment: Segment) -> list[Any]:
        return [self.at[v] for v in segment.graph.inputs]


def evaluate_bracket(bracket: Bracket, segments: Sequence[Segment], values: Values) -> Any:
    """The Jacobian of a sub-chain as a matrix: numbers at its last boundary by those at its first."""
    if bracket.way == "product":
        assert bracket.left is not None
        assert bracket.right is not None
        left = evaluate_bracket(bracket.left, segments, values)
        right = evaluate_bracket(bracket.right, segments, values)
        return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
    if bracket.way == "forward":
        inner = bracket.right
        first = bracket.first if inner is None else inner.last + 1
        start = segments[bracket.first].inside
        matrix = _identity(start) if inner is None else evaluate_bracket(inner, segments, values)
        for k in range(first, bracket.last + 1):
            matrix = _push_columns(segments[k], values, matrix)
        return matrix
    inner = bracket.left
    last = bracket.last if inner is None else inner.first - 1
    matrix = _identity(segments[bracket.last].outside) if inner is None else evaluate_bracket(inner, segments, values)
    for k in range(last, bracket.first - 1, -1):
        matrix = _pull_rows(segments[k], values, matrix)
    return matrix


def blocks_of(matrix: Any, outside: Sequence[Variable], inside: Sequence[Variable]) -> dict[tuple[Variable, Variable], Any]:
    """A matrix in blocks of the shape (outside + inside), by their pair of variables."""
    ends = np.cumsum([math.prod(v.shape) for v in outside]).tolist()
    blocks = {}
    for y, start, end in zip(outside, [0, *ends], ends, strict=False):
        parts = jax.vmap(lambda row: split(row, inside))(matrix[start:end])
        blocks.update({(y, x): p.reshape(y.shape + x.shape) for x, p in zip(inside, parts, strict=True)})
    return blocks


def _identity(variables: Sequence[Variable]) -> Any:
    return jnp.eye(size_of(variables), dtype=jnp.result_type(*(v.dtype for v in variables)))


def _push_columns(segment: Segment, values: Values, matrix: Any) -> Any:
    inputs, rest = values.inputs(segment), [None] * len(segment.unmoved)

    def one(column: Any) -> Any:
        _, tangents = push_tangents(segment.graph, inputs, [*split(column, segment.inside), *rest])
        return joined(tangents, segment.outside)

    return jax.vmap(one, in_axes=1, out_axes=1)(matrix)


def _pull_rows(segment: Segment, values: Values, matrix: Any) -> Any:
    tape = forward(segment.graph, values.inputs(segment), segment.inside)

    def one(row: Any) -> Any:
        seeds = dict(zip(segment.outside, split(row, segment.outside), strict=True))
        return joined(backpropagate(tape, seeds, segment.inside), segment.inside)

    return jax.vmap(one)(matrix)


def split(vector: Any, variables: Sequence[Variable]) -> list[Any]:
    """A vector as arrays of the shapes and dtypes of variables."""
    ends = np.cumsum([math.prod(v.shape) for v in variables]).tolist()
    parts = zip([0, *ends], ends, variables, strict=False)
    return [vector[start:end].reshape(v.shape).astype(v.dtype) for start, end, v in parts]


def joined(arrays: Sequence[Any], variables: Sequence[Variable]) -> Any:
    """Arrays (None: zeros) as one vector."""
    dtype = jnp.result_type(*(v.dtype for v in variables))
    pairs = zip(arrays, variables, strict=True)
    return jnp.concatenate(
        [jnp.zeros(math.prod(v.shape), dtype) if a is None else a.ravel().astype(dtype) for a, v in pairs]
    )
