"""Which given values a run of operations depends on, and through which to tell it from its first run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from jax import numpy as jnp

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.work import VIEWS, is_heavy


def loose_sources(operations: Sequence[Operation], seen: Collection[Variable]) -> list[Variable]:
    """Values to view anew besides `seen`, so that each heavy operation of a repetition depends on a new view.

    A heavy operation that reads none of `seen`, directly or not, is the same in the repetition as it was the first
    time: a compiler merges the two and holds the result in between.  Of what such an operation reads the smallest
    value is chosen, an argument before the result of an operation that reads nothing: views of constants are simplified
    away.
    """
    chosen: list[Variable] = []
    nullary: set[Variable] = set()
    tied, origins = set(seen), dict[Variable, frozenset[Variable]]()
    for op in operations:
        inputs = variables_of(op.inputs)
        found = frozenset(s for v in inputs for s in origins.get(v, {v}))
        if found & tied:
            tied.update(op.outputs)
            continue
        if not found:
            found = frozenset(op.outputs[:1])
            nullary |= found
        if is_heavy(op):
            pick = min(found, key=lambda v: (v in nullary, v.nbytes))
            chosen.append(pick)
            tied.add(pick)
            tied.update(v for v, sources in origins.items() if pick in sources)
            tied.update(op.outputs)
        else:
            origins.update((v, found) for v in op.outputs)
    return chosen


def made_of_nothing(
    operations: Sequence[Operation], results: Collection[Variable], in_memory: Callable[[Operation], bool]
) -> list[Variable]:
    """Arrays that operations make of no input, such as zeros to scatter into, and that need memory of their own.

    They are among the results or read by an operation for which `in_memory` holds.  Nothing keeps a compiler from
    making them at the start of a program, once for all repetitions, and holding them until they are used.
    """
    nullary: set[Variable] = set()
    found: dict[Variable, None] = {}
    for op in operations:
        inputs = variables_of(op.inputs)
        if in_memory(op):
            found.update(dict.fromkeys(v for v in inputs if v in nullary))
        elif all(v in nullary for v in inputs) and not op.effects:
            nullary.update(v for v in op.outputs if v.shape)
    found.update(dict.fromkeys(v for v in results if v in nullary))
    return list(found)


def half_operands(operations: Sequence[Operation], given: Collection[Variable]) -> list[Variable]:
    """The given values of half precision that heavy operations read, directly or through views.

    CPUs compute products in single precision; the widened copy of an argument is made once and held from its first
    use to its last, unless each use has its own view.
    """
    roots: dict[Variable, Variable] = {v: v for v in given if _is_half(v)}
    found: dict[Variable, None] = {}
    for op in operations:
        direct = list(_roots(op, roots))
        if is_heavy(op):
            found.update(dict.fromkeys(direct))
        elif op.name in VIEWS and direct:
            roots.update((v, direct[0]) for v in op.outputs)
    return list(found)


def _roots(op: Operation, roots: dict[Variable, Variable]) -> Iterator[Variable]:
    return (roots[v] for v in variables_of(op.inputs) if v in roots)


def _is_half(v: Variable) -> bool:
    return v.dtype in (jnp.bfloat16, jnp.float16)
