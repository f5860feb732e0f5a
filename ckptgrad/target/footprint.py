"""How many bytes a run of operations holds beside what it is given and what it returns.

A model of what a fusing compiler allocates: elementwise work and views are fused into their readers
and take no memory; products, reductions, loops, their operands, and results do.  An array lives
from the operation that makes it to the last one that reads it, directly or through fused work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import jax
from jax import numpy as jnp

from ckptgrad.graph.graph import Operation, Variable, aval_bytes, variables_of
from ckptgrad.graph.traits import is_heavy, is_materialised, is_product, is_reduction, is_transcendental
from ckptgrad.graph.work import has_batch_dimensions


def materialised(operations: Sequence[Operation], wanted: Collection[Variable]) -> set[Variable]:
    """The values that get memory: results, those of heavy operations, and operands of products."""
    found: set[Variable] = set(wanted)
    readers: dict[Variable, int] = {}
    for op in operations:
        for v in set(variables_of(op.inputs)):
            readers[v] = readers.get(v, 0) + 1
    for op in operations:
        dear = is_transcendental(op) and any(readers.get(v, 0) > 1 for v in op.outputs)
        if dear or is_materialised(op):
            found.update(op.outputs)
        if is_heavy(op) or _reduces_apart(op):
            found.update(variables_of(op.inputs))
    return found


def _reduces_apart(op: Operation) -> bool:
    """Whether an operation reduces axes with others between them, as group norms do: no compiler fuses its operand."""
    axes = sorted(op.params.get("axes", op.params.get("dimensions", ()))) if is_reduction(op) else []
    return bool(axes) and axes[-1] - axes[0] >= len(axes)


def traffic(operations: Sequence[Operation], wanted: Collection[Variable]) -> tuple[int, int]:
    """Bytes written to and bytes read from memory by a run of operations, fused work left out."""
    solid = materialised(operations, wanted)
    sources: dict[Variable, frozenset[Variable]] = {}
    written = read = 0
    for op in operations:
        roots = _roots(op, solid, sources)
        stored = [v for v in op.outputs if v in solid]
        written += sum(v.nbytes for v in stored)
        if stored:
            read += sum(v.nbytes for v in roots)
        for v in op.outputs:
            sources[v] = roots
    return written, read


def peak_inside(
    operations: Sequence[Operation],
    given: Collection[Variable],
    returned: Collection[Variable],
    consumed: Collection[Variable] = (),
) -> int:
    """Peak bytes of what a run of operations holds.

    Args:
        operations: in the order they run.
        given: values that others hold; not counted.
        returned: values to hold until the end.
        consumed: values held at the start and dropped at their last use.
    """
    solid = materialised(operations, returned)
    sources: dict[Variable, frozenset[Variable]] = {}
    last: dict[Variable, int] = {}
    for position, op in enumerate(operations):
        roots = _roots(op, solid, sources)
        for v in op.outputs:
            sources[v] = roots
            if v in solid:
                last[v] = position
        if any(v in solid for v in op.outputs):
            for r in roots:
                last[r] = position
    kept = set(returned)
    live = peak = sum(v.nbytes for v in consumed)
    made: set[Variable] = set(consumed)
    reusable: set[Variable] = {*consumed}
    dying: dict[int, list[Variable]] = {}
    for v, position in last.items():
        dying.setdefault(position, []).append(v)
    for position, op in enumerate(operations):
        fresh = [v for v in op.outputs if v in solid and v not in given]
        dead = [v for v in dying.get(position, []) if v not in kept and v not in given]
        made.update(fresh)
        grown = sum(v.nbytes for v in fresh)
        freed = sum(v.nbytes for v in dead if v in made)
        peak = max(peak, live + grown + scratch(op) - (0 if is_materialised(op) else _reused(fresh, dead, reusable)))
        if not (is_product(op) and op.outputs[0].aval.ndim > 2 and not has_batch_dimensions(op)):
            reusable.update(fresh)
        live += grown - freed
    return peak


def scratch(op: Operation) -> int:
    """Bytes beside operands and results while a product runs on a CPU: copies of these as it works on them.

    Convolutions work on channels last, and all products in single precision at least.  What a planned loop holds inside
    its plan knows.
    """
    if op.known_cost is not None:
        return op.known_cost.bytes
    if not is_product(op) or jax.default_backend() != "cpu":
        return 0
    avals = [a.aval for a in (*op.inputs, *op.outputs)]
    copied = [False] * len(avals)
    if op.name == "conv_general_dilated":
        copied = [a != b for a, b in zip(op.params["dimension_numbers"], channels_last(avals[0].ndim), strict=True)]
    half = [a.dtype in (jnp.bfloat16, jnp.float16) for a in avals]
    return sum(aval_bytes(a) * (2 if h else int(c)) for a, h, c in zip(avals, half, copied, strict=True))


def channels_last(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The dimension numbers of operand, kernel and result of a convolution on channels last."""
    data = (0, ndim - 1, *range(1, ndim - 1))
    return data, (ndim - 1, ndim - 2, *range(ndim - 2)), data


def _reused(fresh: Sequence[Variable], dead: Sequence[Variable], reusable: Collection[Variable]) -> int:
    """Bytes of results that an elementwise operation may write over an operand it is the last to read.

    Not over a product of more than two axes: that is computed as a matrix and seen through a view.
    """
    free = [(v.shape, v.dtype) for v in dead if v in reusable and v not in fresh]
    total = 0
    for v in fresh:
        if (v.shape, v.dtype) in free:
            free.remove((v.shape, v.dtype))
            total += v.nbytes
    return total


def _roots(op: Operation, solid: Collection[Variable], sources: dict[Variable, frozenset[Variable]]) -> frozenset[Variable]:
    """The values with memory that an operation reads, directly or through fused work."""
    found: set[Variable] = set()
    for v in variables_of(op.inputs):
        if v in solid or v not in sources:
            found.add(v)
        else:
            found |= sources[v]
    return frozenset(found)
