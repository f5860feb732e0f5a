"""How many bytes a run of operations holds beside what it is given and what it returns.

A model of what a fusing compiler allocates: elementwise work and views are fused into their readers
and take no memory; products, reductions, loops, their operands, and results do.  An array lives
from the operation that makes it to the last one that reads it, directly or through fused work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.work import PRODUCTS, TRANSCENDENTAL, VIEWS, has_batch_dimensions, is_heavy

_REDUCTIONS = frozenset(
    {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "reduce_and", "reduce_or"}
)


def is_materialised(op: Operation) -> bool:
    """Whether an operation's results get memory of their own even if read once."""
    return is_heavy(op) or op.name in _REDUCTIONS or op.name in ("gather", "concatenate", "dynamic_update_slice")


def materialised(operations: Sequence[Operation], wanted: Collection[Variable]) -> set[Variable]:
    """The values that get memory: results, those of heavy operations, and operands of products."""
    found: set[Variable] = set(wanted)
    readers: dict[Variable, int] = {}
    for op in operations:
        for v in set(variables_of(op.inputs)):
            readers[v] = readers.get(v, 0) + 1
    for op in operations:
        dear = op.name in TRANSCENDENTAL and any(readers.get(v, 0) > 1 for v in op.outputs)
        if dear or is_materialised(op):
            found.update(op.outputs)
        if is_heavy(op):
            found.update(variables_of(op.inputs))
    return found


def fused_into(operations: Sequence[Operation], results: Collection[Variable]) -> list[Operation]:
    """The cheap operations that make `results` from values that have memory anyway, in order."""
    solid = materialised(operations, ())
    wanted = {v for v in results if v not in solid}
    found = []
    for op in reversed(operations):
        if any(v in wanted for v in op.outputs):
            found.append(op)
            wanted.update(v for v in variables_of(op.inputs) if v not in solid)
    return found[::-1]


# Cotangents are put in memory where they are made if the last work on them reads at most so many arrays of their size.
MOST_ARRAYS = 4
_SMALL = 1024


def last_work(back: Sequence[Operation], crossing: Collection[Variable], arrays: int = MOST_ARRAYS) -> list[Operation]:
    """The cheap operations that make the cotangents `crossing` for the stage before, if they read `arrays` at most.

    What they read stays alive until they are done if they are done in this stage, and until the stage before is done
    if they are left to be fused there.  Scalars and the like are not counted.
    """
    last = fused_into(back, crossing)
    made = {v for op in last for v in op.outputs}
    operands = {v for op in last for v in variables_of(op.inputs)} - made
    most = arrays * sum(v.nbytes for v in crossing) + _SMALL
    return last if sum(v.nbytes for v in operands) <= most else []


def stored_for(
    operations: Sequence[Operation],
    kept: Sequence[Variable],
    results: Collection[Variable],
    free: Collection[Variable],
) -> list[Variable]:
    """What holds memory when `kept` is kept besides the results; `free` values are others'.

    Cheap work is fused into its readers, which then need what it read: keeping the mask of a relu keeps what
    the mask was made from, if that is larger.  Transcendental work is done once and its result stored.
    """
    solid = materialised(operations, results)
    sources: dict[Variable, frozenset[Variable]] = {}
    dear: set[Variable] = set()
    for op in operations:
        roots = _roots(op, solid, sources)
        sources.update((v, roots) for v in op.outputs)
        if op.name in TRANSCENDENTAL or any(v in dear for v in op.inputs):
            dear.update(v for v in op.outputs if v not in solid)
    found: dict[Variable, None] = {}
    for v in kept:
        roots = [] if v in solid or v in dear else [r for r in sources.get(v, ()) if r not in free]
        larger = max((r.nbytes for r in roots), default=0) > v.nbytes
        found.update((r, None) for r in (roots if larger else [v]))
    return list(found)


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
    reusable: set[Variable] = {v for v in consumed if len(v.shape) <= 2}
    dying: dict[int, list[Variable]] = {}
    for v, position in last.items():
        dying.setdefault(position, []).append(v)
    for position, op in enumerate(operations):
        fresh = [v for v in op.outputs if v in solid and v not in given]
        dead = [v for v in dying.get(position, []) if v not in kept and v not in given]
        made.update(fresh)
        grown = sum(v.nbytes for v in fresh)
        freed = sum(v.nbytes for v in dead if v in made)
        peak = max(peak, live + grown - (0 if is_materialised(op) else _reused(fresh, dead, reusable)))
        if not (op.name in PRODUCTS and op.outputs[0].aval.ndim > 2 and not has_batch_dimensions(op)):
            reusable.update(fresh)
        live += grown - freed
    return peak


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


def feeds_heavy_directly(operations: Sequence[Operation], v: Variable) -> bool:
    """Whether a value reaches a heavy operation through views alone, so that a guard copies it."""
    alias = {v}
    for op in operations:
        if any(a in alias for a in op.inputs):
            if is_heavy(op):
                return True
            if op.name in VIEWS:
                alias.update(op.outputs)
    return False
