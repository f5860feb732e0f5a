"""Which values a stage keeps for its backward: minimum cuts of its forward graph.

What the backward reads must be reachable from what is kept.  Give each forward value its bytes as
capacity, join to the source all that may not be recomputed, and to the sink all that the backward
reads: a minimum cut is the cheapest set to keep under that rule.  Forbidding fewer and fewer
operations gives a front of choices, from "everything" to "the input only".

The formulation is that of min-cut rematerialisation (He and Yu 2023, in PyTorch's AOTAutograd; after
Chaitin's and Checkmate's view of rematerialisation as a graph problem); the solver is scipy's
maximum flow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from ckptgrad.autodiff.joint import Joint
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.work import PRODUCTS, VIEWS, has_batch_dimensions, is_heavy

Fixed = Callable[[Operation], bool]

# From most kept to least: the operations that a choice may not do again.
LEVELS: tuple[tuple[str, Fixed], ...] = (
    ("all", lambda op: op.name not in VIEWS),
    ("heavy", is_heavy),
    ("products", lambda op: op.name in PRODUCTS),
    ("unbatched products", lambda op: op.name in PRODUCTS and not has_batch_dimensions(op)),
    ("input", lambda op: False),
)


def residual_choices(joint: Joint, boundary: Collection[Variable]) -> list[tuple[str, list[Variable]]]:
    """The distinct choices of what to keep, named by level, from most kept to least.

    Args:
        joint: the joint graph of the stage.
        boundary: the inputs that are held only if the plan says so (arguments are free).
    """
    found: dict[frozenset[Variable], tuple[str, list[Variable]]] = {}
    for name, fixed in LEVELS:
        keep = minimum_keep(joint, boundary, fixed)
        found.setdefault(frozenset(keep), (name, keep))
    whole = [v for v in joint.inputs if v in boundary]
    found.setdefault(frozenset(whole), ("input", whole))
    return list(found.values())


def minimum_keep(joint: Joint, boundary: Collection[Variable], fixed: Fixed) -> list[Variable]:
    """The fewest bytes of forward values from which the rest of what backward reads can be redone.

    Args:
        joint: the joint graph.
        boundary: inputs that cost their bytes to keep; other inputs cost nothing.
        fixed: operations that may not be done again.

    Returns:
        The values to keep, boundary inputs among them, in topological order.
    """
    operations = joint.forward_operations
    values = [v for v in joint.inputs if v in boundary]
    values += [v for op in operations for v in op.outputs]
    views = {v for op in operations if op.name in VIEWS for v in op.outputs}
    index = {v: 2 * i + 2 for i, v in enumerate(values)}
    source, sink = 0, 1
    unit = max(1, sum(v.nbytes for v in values) // (1 << 28))
    edges: dict[tuple[int, int], int] = {}
    infinite = 1 << 30

    for v in values:
        edges[index[v], index[v] + 1] = max(1, -(-_price(v, v in boundary, v in views) // unit))
    for v in joint.inputs:
        if v in boundary:
            edges[source, index[v]] = infinite
    for op in operations:
        sources = [v for v in variables_of(op.inputs) if v in index]
        locked = bool(op.effects) or fixed(op)
        for out in op.outputs:
            if locked:
                edges[source, index[out]] = infinite
            for v in sources:
                edges[index[v] + 1, index[out]] = infinite
    for v in joint.frontier:
        if v in index:
            edges[index[v] + 1, sink] = infinite
    if not any(b == sink for _, b in edges) or not any(a == source for a, _ in edges):
        return []
    rows, columns = np.array(list(edges), dtype=np.int32).T
    size = 2 * len(values) + 2
    capacity = csr_array((np.array(list(edges.values()), dtype=np.int32), (rows, columns)), (size, size))
    flow = maximum_flow(capacity, source, sink).flow
    residual = capacity - flow
    reached = _reach_sink(residual, sink, size)
    return [v for v in values if index[v] not in reached and index[v] + 1 in reached]


def _price(v: Variable, is_boundary: bool, is_view: bool) -> int:
    """Bytes, with two preferences among choices of nearly equal bytes.

    A boundary before a residual, because a neighbour may hold it anyway.  An array before a view
    of it, because a compiler may hold both.
    """
    return v.nbytes + (v.nbytes // 64 if is_view else 0) - (v.nbytes // 64 if is_boundary else 0)


def _reach_sink(residual: csr_array, sink: int, size: int) -> set[int]:
    """The nodes from which the sink can be reached in the residual network.

    Cutting as near to the sink as possible keeps the values that take least to turn into what the
    backward reads, among cuts of equal bytes.
    """
    backwards: list[list[int]] = [[] for _ in range(size)]
    pairs = residual.tocoo()
    for a, b, room in zip(pairs.coords[0], pairs.coords[1], pairs.data, strict=True):
        if room > 0:
            backwards[b].append(int(a))
    reached, stack = {sink}, [sink]
    while stack:
        for a in backwards[stack.pop()]:
            if a not in reached:
                reached.add(a)
                stack.append(a)
    return reached
