"""The bytes that a run of operations holds besides what it is given and what it returns.

A model of what a fusing compiler allocates for what it writes (`target.stored`): an array lives from the operation that
makes it to the last one that reads it, directly or through fused work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from jax import numpy as jnp

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.spread import bytes_whole, transfers
from ckptgrad.graph.traits import is_materialised, is_modelled, is_product
from ckptgrad.graph.work import has_batch_dimensions
from ckptgrad.target.in_place import in_place
from ckptgrad.target.stored import fused_roots, materialised, readers_of, readers_through_fused_work, stored_beside_products
from ckptgrad.target.target import Target


def is_sure(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> bool:
    """Whether what the model says of these operations can be relied on.

    It cannot where an operation is not modelled, as products of more than two axes and convolutions, nor where the model
    depends on what is the compiler's to choose:

    - Elementwise work writes over a value only if it comes after all others that read it.
    - What several devices send each other may be sent early, or late, and be held as long.
    - A value that is fused into several slices, pads or broadcasts is computed again in each: some are, others get memory.
    """
    if not all(is_modelled(op) and (not is_product(op) or _is_matrix_product(op)) for op in operations):
        return False
    if any(transfers(op) for op in operations):
        return False
    solid = materialised(operations, results, target)
    reading = readers_of(operations)
    fused = {v for op in operations for v in op.outputs} - solid
    makers = {v: op for op in operations for v in op.outputs}

    def ordered(a: Operation, b: Operation) -> bool:
        return _depends(a, b, makers) or _depends(b, a, makers)

    for v, readers in reading.items():
        if v in fused and len(readers) > 1 and any(op.outputs[0].shape != v.shape for op in readers):
            return False
    for v, readers in readers_through_fused_work(operations, solid).items():
        over = [op for op in readers if not is_materialised(op) and any(_alike(v, w) for w in op.outputs)]
        if any(not ordered(op, other) for op in over for other in readers if other is not op):
            return False
    return True


def _alike(v: Variable, w: Variable) -> bool:
    return (v.shape, v.dtype) == (w.shape, w.dtype)


def _depends(op: Operation, other: Operation, makers: Mapping[Variable, Operation]) -> bool:
    """Whether an operation reads what another one makes, directly or through others."""
    seen, waiting = {op}, [op]
    while waiting:
        for v in variables_of(waiting.pop().inputs):
            maker = makers.get(v)
            if maker is other:
                return True
            if maker is not None and maker not in seen:
                seen.add(maker)
                waiting.append(maker)
    return False


def _is_matrix_product(op: Operation) -> bool:
    return op.name == "dot_general" and all(a.aval.ndim <= 2 for a in (*op.inputs, *op.outputs))


def traffic(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> tuple[int, int]:
    """Bytes written to and bytes read from memory by a run of operations, fused work left out."""
    solid = materialised(operations, results, target)
    sources: dict[Variable, frozenset[Variable]] = {}
    written = read = 0
    for op in operations:
        roots = fused_roots(op, solid, sources)
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
    return max([target.total_bytes(consumed), *live_inside(operations, held_outside, returned, target, consumed)])


def live_inside(
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    target: Target,
    consumed: Collection[Variable] = (),
) -> Iterator[int]:
    """Bytes held while each operation of a run runs, one by one; arguments as of `peak_inside`."""
    live = target.total_bytes(consumed)
    made: set[Variable] = set(consumed)
    for op, fresh, dead, reused in _steps(operations, held_outside, returned, target, consumed):
        made.update(fresh)
        grown = target.total_bytes(fresh)
        yield live + grown + scratch(op, target) - target.total_bytes(reused)
        live += grown - target.total_bytes([v for v in dead if v in made])


def values_inside(
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    target: Target,
    consumed: Collection[Variable] = (),
) -> list[Variable]:
    """The values that a run of operations holds at its worst moment, without what is written over others, and scratch.

    Arguments as of `peak_inside`.
    """
    given = held_outside, returned, target, consumed
    live = [*live_inside(operations, *given)]
    start = target.total_bytes(consumed)
    worst = live.index(max(live)) if live and max(live) > start else -1
    values = dict.fromkeys(consumed)
    for position, (_, fresh, dead, reused) in enumerate(_steps(operations, *given)):
        if position > worst:
            break
        values.update(dict.fromkeys(v for v in fresh if position < worst or v not in reused))
        if position < worst:
            for v in dead:
                values.pop(v, None)
    return [*values]


def values_beside(values: Collection[Variable], consumed: Collection[Variable]) -> list[Variable]:
    """Of values held at a worst moment those beside what was consumed: each of these is left out or, if it is gone, a value
    like it that may be written over it."""
    gone = [v for v in consumed if v not in values]
    beside = [v for v in values if v not in consumed]
    for v in gone:
        over = next((w for w in beside if _alike(v, w)), None)
        if over is not None:
            beside.remove(over)
    return beside


def _steps(
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    target: Target,
    consumed: Collection[Variable] = (),
) -> Iterator[tuple[Operation, list[Variable], list[Variable], list[Variable]]]:
    """For each operation what it makes, what it reads last, and of what it makes that which is written over the latter."""
    if target.platform.overlaps:
        stored = stored_beside_products(operations, returned, target)
        passed, solid = stored.passed, stored.solid - stored.passed
    else:
        passed, solid = frozenset[Variable](), materialised(operations, returned, target)
    sources: dict[Variable, frozenset[Variable]] = {}
    last: dict[Variable, int] = {}
    for position, op in enumerate(operations):
        roots = fused_roots(op, solid, sources)
        for v in op.outputs:
            sources[v] = roots
            if v in solid:
                last[v] = position
        if any(v in solid for v in op.outputs):
            for r in roots:
                last[r] = position
    multiplied = _multiplied(operations, solid, passed) if passed else ()
    kept = set(returned)
    held_outside = {*held_outside, *(_seen_elsewhere(operations, held_outside, target) - kept)}
    reusable: set[Variable] = {*consumed}
    dying: dict[int, list[Variable]] = {}
    for v, position in last.items():
        dying.setdefault(position, []).append(v)
    for position, op in enumerate(operations):
        fresh = [v for v in op.outputs if v in solid and v not in held_outside]
        dead = [v for v in dying.get(position, []) if v not in kept and v not in held_outside]
        over = [v for v in dead if v not in multiplied[position]] if passed else dead
        yield op, fresh, dead, _all_reused(op, fresh, over, reusable, target) if over and fresh else []
        if not (is_product(op) and op.outputs[0].aval.ndim > 2 and not has_batch_dimensions(op)):
            reusable.update(fresh)


def _multiplied(
    operations: Sequence[Operation], solid: Collection[Variable], passed: Collection[Variable]
) -> list[frozenset[Variable]]:
    """For each operation what is read by the products in whose fusions it is: nothing is written over that."""
    sources: dict[Variable, frozenset[Variable]] = {}
    through: dict[Variable, frozenset[Variable]] = {}
    found: list[frozenset[Variable]] = []
    for op in operations:
        roots = fused_roots(op, solid, sources)
        read = frozenset[Variable]().union(*(through[v] for v in variables_of(op.inputs) if v in through and v not in solid))
        for v in op.outputs:
            sources[v] = roots
            through[v] = roots if v in passed else read
        found.append(read)
    return found


def _seen_elsewhere(operations: Sequence[Operation], held: Collection[Variable], target: Target) -> set[Variable]:
    """Other views of what others hold, which take no memory besides: of what they give, and of what is made for them."""
    pairs = [pair for op in operations for pair in in_place(op, target).items()]
    seen: set[Variable] = set()
    for v, source in pairs:
        if source in held or source in seen:
            seen.add(v)
    for v, source in reversed(pairs):
        if v in held or v in seen:
            seen.add(source)
    return seen


def _overwriting(op: Operation, fresh: Sequence[Variable]) -> Sequence[Variable]:
    """The results that may be written over operands: those of elementwise work, and what a planned loop carries."""
    if op.known_cost is not None:
        return [op.outputs[i] for i in op.known_cost.carried if op.outputs[i] in fresh]
    return [] if is_materialised(op) else fresh


def scratch(op: Operation, target: Target) -> int:
    """Bytes besides operands and results while a product runs: copies of these where the platform works on copies, and on
    several devices what each gathers for it.

    Convolutions work on channels last, and all products in single precision at least.  Of a planned
    loop, what its plan says.
    """
    if op.known_cost is not None:
        return op.known_cost.bytes
    if not is_product(op):
        return 0
    return bytes_whole(op) + (_copied(op, target) if target.platform.copies_operands else 0)


def _copied(op: Operation, target: Target) -> int:
    atoms = (*op.inputs, *op.outputs)
    avals = [a.aval for a in atoms]
    copied = [False] * len(avals)
    if op.name == "conv_general_dilated":
        copied = [a != b for a, b in zip(op.params["dimension_numbers"], channels_last(avals[0].ndim), strict=True)]
    half = [a.dtype in (jnp.bfloat16, jnp.float16) for a in avals]
    return sum(target.bytes_of(a) * (2 if h else int(c)) for a, h, c in zip(atoms, half, copied, strict=True))


def channels_last(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The dimension numbers of operand, kernel and result of a convolution on channels last."""
    data = (0, ndim - 1, *range(1, ndim - 1))
    return data, (ndim - 1, ndim - 2, *range(ndim - 2)), data


def _all_reused(
    op: Operation, fresh: Sequence[Variable], dead: Sequence[Variable], reusable: Collection[Variable], target: Target
) -> list[Variable]:
    """The results that are written over operands, or are these seen otherwise."""
    seen = {source: v for v, source in in_place(op, target).items() if v in fresh and source in dead}
    views = [*seen.values()]
    others = [v for v in _overwriting(op, fresh) if v not in views]
    return [*views, *_reused(others, [v for v in dead if v not in seen], reusable)]


def _reused(fresh: Sequence[Variable], dead: Sequence[Variable], reusable: Collection[Variable]) -> list[Variable]:
    """The results that an operation may write over an operand that it is the last to read.

    Not over a product of more than two axes: that is computed as a matrix and seen through a view.
    """
    free = [(v.shape, v.dtype) for v in dead if v in reusable and v not in fresh]
    reused: list[Variable] = []
    for v in fresh:
        if (v.shape, v.dtype) in free:
            free.remove((v.shape, v.dtype))
            reused.append(v)
    return reused
