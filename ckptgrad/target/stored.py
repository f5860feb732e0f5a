"""Which values of a run of operations get memory.

A model of what a fusing compiler writes: elementwise work and views are fused into their readers and take no memory;
products, reductions, loops, their operands, and results do. Where products and what surrounds them go on beside each other
(`Platform.overlaps`), a product takes more into its fusion: what makes its operands, and the work that follows it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.random_keys import each_draws_alone, is_key
from ckptgrad.graph.traits import is_heavy, is_materialised, is_random, is_reduction, is_transcendental
from ckptgrad.target.target import Target


def materialised(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> set[Variable]:
    """The values that get memory: results, those of heavy operations, and operands of products.

    Transcendental functions that several others read get memory too, except where the target would rather do them again.
    """
    solid: set[Variable] = set(results)
    platform = target.platform
    expensive: list[Operation] = []
    if not (platform.repeats_transcendentals and platform.repeats_half):
        expensive = [op for op in operations if is_transcendental(op) and not platform.repeats(op.outputs[0].aval.dtype)]
    readers = readers_of(operations) if expensive else {}
    for op in expensive:
        if any(len(readers.get(v, ())) > 1 for v in op.outputs):
            solid.update(op.outputs)
    for op in operations:
        if is_fused(op, target):
            continue
        if is_materialised(op):
            solid.update(op.outputs)
        if is_heavy(op) or _reduces_separated_axes(op):
            solid.update(variables_of(op.inputs))
    return solid


def is_fused(op: Operation, target: Target) -> bool:
    """Whether random bits are fused into what reads them, as elementwise work is: those of JAX's own generator."""
    if not target.platform.fuses_random or not is_random(op):
        return False
    return not is_key(op.inputs[0].aval) or each_draws_alone(op.inputs[0])


def _reduces_separated_axes(op: Operation) -> bool:
    """Whether an operation reduces axes with others between them, as group norms do: no compiler fuses its operand."""
    axes = sorted(op.params.get("axes", op.params.get("dimensions", ()))) if is_reduction(op) else []
    return bool(axes) and axes[-1] - axes[0] >= len(axes)


@dataclass(frozen=True)
class Stored:
    """What gets memory where products take what surrounds them into their fusions.

    Attributes:
        solid: the values that get memory, and results of products that are passed on inside a fusion.
        passed: those of them that nothing else reads, which get none.
    """

    solid: set[Variable]
    passed: frozenset[Variable]


def stored_beside_products(operations: Sequence[Operation], results: Collection[Variable], target: Target) -> Stored:
    """Which values get memory where a product takes the cheap work before and after it into its fusion.

    Operands are made as they are read, so often as they are, unless they are what follows another product whose result
    nothing else reads, or what a loop reads.
    """
    solid = materialised(operations, results, target)
    reading = readers_through_fused_work(operations, solid)
    kept = {*results, *(v for op in operations if op.known_cost is not None for v in variables_of(op.inputs))}
    sources: dict[Variable, frozenset[Variable]] = {}
    waiting: set[Variable] = set()
    taken: set[Variable] = set()
    for op in operations:
        roots = fused_roots(op, solid, sources)
        sources.update(dict.fromkeys(op.outputs, roots))
        made = [v for v in op.outputs if v in solid]
        if not made or op.known_cost is not None:
            continue
        if is_heavy(op) and not is_fused(op, target):
            waiting.update(v for v in made[:1] if kept.isdisjoint(made))
            continue
        followed = waiting & roots
        alone = any(len(reading[v]) == 1 for v in followed)
        written = is_materialised(op) and not is_fused(op, target)
        if not alone and not written and kept.isdisjoint(made):
            solid.difference_update(made)
            continue
        waiting -= followed
        taken |= followed
    reading = readers_through_fused_work(operations, solid) if taken else {}
    return Stored(solid, frozenset(v for v in taken if len(reading.get(v, ())) == 1))


def readers_of(operations: Sequence[Operation]) -> dict[Variable, list[Operation]]:
    """For each value the operations that read it."""
    readers: dict[Variable, list[Operation]] = {}
    for op in operations:
        for v in dict.fromkeys(variables_of(op.inputs)):
            readers.setdefault(v, []).append(op)
    return readers


def readers_through_fused_work(
    operations: Sequence[Operation], solid: Collection[Variable]
) -> dict[Variable, list[Operation]]:
    """For each value with memory the operations that read it and write to memory."""
    readers: dict[Variable, list[Operation]] = {}
    sources: dict[Variable, frozenset[Variable]] = {}
    for op in operations:
        roots = fused_roots(op, solid, sources)
        sources.update((v, roots) for v in op.outputs)
        if any(v in solid for v in op.outputs):
            for v in roots:
                readers.setdefault(v, []).append(op)
    return readers


def fused_roots(
    op: Operation, solid: Collection[Variable], sources: dict[Variable, frozenset[Variable]]
) -> frozenset[Variable]:
    """The values with memory that an operation reads, directly or through fused work."""
    roots: set[Variable] = set()
    for v in variables_of(op.inputs):
        if v in solid or v not in sources:
            roots.add(v)
        else:
            roots |= sources[v]
    return frozenset(roots)
