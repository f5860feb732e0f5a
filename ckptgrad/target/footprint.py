"""The bytes that a run of operations holds besides what it is given and what it returns.

A model of what a fusing compiler allocates: elementwise work and views are fused into their readers
and take no memory; products, reductions, loops, their operands, and results do. An array lives
from the operation that makes it to the last one that reads it, directly or through fused work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jax import numpy as jnp

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_heavy, is_materialised, is_product, is_reduction, is_transcendental
from ckptgrad.graph.work import has_batch_dimensions
from ckptgrad.target.target import Target


def materialised(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> set[Variable]:
    """The values that get memory: results, those of heavy operations, and operands of products.

    Transcendental functions that several others read get memory too, except where the target would rather do them again.
    """
    solid: set[Variable] = set(results)
    readers: dict[Variable, int] = {}
    repeats = target.platform.repeats_transcendentals
    for op in operations:
        for v in set(variables_of(op.inputs)):
            readers[v] = readers.get(v, 0) + 1
    for op in operations:
        expensive = not repeats and is_transcendental(op) and any(readers.get(v, 0) > 1 for v in op.outputs)
        if expensive or is_materialised(op):
            solid.update(op.outputs)
        if is_heavy(op) or _reduces_separated_axes(op):
            solid.update(variables_of(op.inputs))
    return solid


def _reduces_separated_axes(op: Operation) -> bool:
    """Whether an operation reduces axes with others between them, as group norms do: no compiler fuses its operand."""
    axes = sorted(op.params.get("axes", op.params.get("dimensions", ()))) if is_reduction(op) else []
    return bool(axes) and axes[-1] - axes[0] >= len(axes)


def traffic(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> tuple[int, int]:
    """Bytes written to and bytes read from memory by a run of operations, fused work left out."""
    solid = materialised(operations, results, target)
    sources: dict[Variable, frozenset[Variable]] = {}
    written = read = 0
    for op in operations:
        roots = _roots(op, solid, sources)
        stored = [v for v in op.outputs if v in solid]
        written += target.total_bytes(stored)
        if stored:
            read += target.total_bytes(roots)
        for v in op.outputs:
            sources[v] = roots
    return written, read


def peak_inside(
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    target: Target,
    consumed: Collection[Variable] = (),
) -> int:
    """Peak bytes of what a run of operations holds.

    Args:
        operations: in the order they run.
        held_outside: values that others hold; not counted.
        returned: values to hold until the end.
        target: what the operations are compiled for.
        consumed: values held at the start and dropped at their last use.
    """
    solid = materialised(operations, returned, target)
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
    live = peak = target.total_bytes(consumed)
    made: set[Variable] = set(consumed)
    reusable: set[Variable] = {*consumed}
    dying: dict[int, list[Variable]] = {}
    for v, position in last.items():
        dying.setdefault(position, []).append(v)
    for position, op in enumerate(operations):
        fresh = [v for v in op.outputs if v in solid and v not in held_outside]
        dead = [v for v in dying.get(position, []) if v not in kept and v not in held_outside]
        made.update(fresh)
        grown = target.total_bytes(fresh)
        freed = target.total_bytes(v for v in dead if v in made)
        reused = [] if is_materialised(op) else _reused(fresh, dead, reusable)
        peak = max(peak, live + grown + scratch(op, target) - target.total_bytes(reused))
        if not (is_product(op) and op.outputs[0].aval.ndim > 2 and not has_batch_dimensions(op)):
            reusable.update(fresh)
        live += grown - freed
    return peak


def scratch(op: Operation, target: Target) -> int:
    """Bytes besides operands and results while a product runs: copies of these where the platform works on copies.

    Convolutions work on channels last, and all products in single precision at least.  Of a planned
    loop, what its plan says.
    """
    if op.known_cost is not None:
        return op.known_cost.bytes
    if not is_product(op) or not target.platform.copies_operands:
        return 0
    avals = [a.aval for a in (*op.inputs, *op.outputs)]
    copied = [False] * len(avals)
    if op.name == "conv_general_dilated":
        copied = [a != b for a, b in zip(op.params["dimension_numbers"], channels_last(avals[0].ndim), strict=True)]
    half = [a.dtype in (jnp.bfloat16, jnp.float16) for a in avals]
    return sum(target.bytes_of(a) * (2 if h else int(c)) for a, h, c in zip(avals, half, copied, strict=True))


def channels_last(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The dimension numbers of operand, kernel and result of a convolution on channels last."""
    data = (0, ndim - 1, *range(1, ndim - 1))
    return data, (ndim - 1, ndim - 2, *range(ndim - 2)), data


def _reused(fresh: Sequence[Variable], dead: Sequence[Variable], reusable: Collection[Variable]) -> list[Variable]:
    """The results that an elementwise operation may write over an operand that it is the last to read.

    Not over a product of more than two axes: that is computed as a matrix and seen through a view.
    """
    free = [(v.shape, v.dtype) for v in dead if v in reusable and v not in fresh]
    reused: list[Variable] = []
    for v in fresh:
        if (v.shape, v.dtype) in free:
            free.remove((v.shape, v.dtype))
            reused.append(v)
    return reused


def _roots(op: Operation, solid: Collection[Variable], sources: dict[Variable, frozenset[Variable]]) -> frozenset[Variable]:
    """The values with memory that an operation reads, directly or through fused work."""
    roots: set[Variable] = set()
    for v in variables_of(op.inputs):
        if v in solid or v not in sources:
            roots.add(v)
        else:
            roots |= sources[v]
    return frozenset(roots)
