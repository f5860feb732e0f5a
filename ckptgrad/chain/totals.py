"""Gradients that are added to a total where they are made, with no term beside it.

A gather's backward adds to the places that were read, of the total as well as of zeros; a loop over chunks, which adds up
what its chunks make or writes it where it belongs, may begin with the total. Other terms are made first and added then.

Scattered sums of fewer than 32 bits are left alone: one by one, small addends are lost beside a large total. So are those
that a loop carries in a wider dtype, for which there is no room in the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ckptgrad.chain.kind import PerKind, StageKind
from ckptgrad.chunks.markers import begun_with, gradients_of
from ckptgrad.graph.graph import Atom, Constant, Operation, Variable, variables_of
from ckptgrad.graph.value_types import explicit_sharding, is_manual
from ckptgrad.stage.partition import Partition

_LEAST_BYTES = 4


@dataclass(frozen=True)
class InPlace:
    """A run of operations some of whose results are sums.

    Attributes:
        operations: the run.
        totals: for each such result the variable of what it is added to, which the run reads.
    """

    operations: tuple[Operation, ...]
    totals: Mapping[Atom, Variable]


def in_place(operations: Sequence[Operation], terms: Sequence[Atom], others: Collection[Variable]) -> InPlace:
    """The same operations, adding those of the terms to totals that can be added where they are made.

    Args:
        operations: of a backward.
        terms: of the gradients that it makes those that are added to totals.
        others: what else it makes.
    """
    makers = {v: op for op in operations for v in op.outputs}
    readers = Counter(v for op in operations for v in dict.fromkeys(variables_of(op.inputs)))
    times = Counter(variables_of(terms))
    totals: dict[Atom, Variable] = {}
    changed: dict[Operation, Operation | None] = {}
    for v, count in times.items():
        op = makers.get(v)
        if op is None or count > 1 or readers[v] or v in others or _is_spread(v):
            continue
        zeros = _zeros_of(op, makers)
        if zeros is not None:
            totals[v] = Variable(v.aval)
            changed[op] = op.replace([totals[v], *op.inputs[1:]], op.outputs)
            if readers[zeros.outputs[0]] == 1 and zeros.outputs[0] not in others:
                changed[zeros] = None
        elif v in gradients_of(op):
            totals[v] = Variable(v.aval)
    for op in operations:
        begun = {k: totals[v] for k, v in enumerate(op.outputs) if v in totals and op not in changed}
        if begun:
            changed[op] = begun_with(op, begun)
    kept = (changed.get(op, op) for op in operations)
    return InPlace(tuple(op for op in kept if op is not None), totals)


def always_in_place(kind: StageKind, summed: Sequence[int]) -> frozenset[int]:
    """The positions of those of its summed gradients that every option of a stage adds in place."""
    known, key = _always(kind), tuple(summed)
    if key not in known:
        found = (_added_in_place(option.partition, key) for option in kind.options) if key else ()
        known[key] = frozenset(key).intersection(*found)
    return known[key]


def _added_in_place(part: Partition, summed: Sequence[int]) -> set[int]:
    gradients = part.joint.gradients
    others = variables_of(g for k, g in enumerate(gradients) if g is not None and k not in summed)
    terms = [g for k in summed if (g := gradients[k]) is not None]
    totals = in_place(part.backward_run.operations, terms, {*others, *part.joint.late}).totals
    return {k for k in summed if gradients[k] in totals}


def _nothing_known(kind: StageKind) -> dict[tuple[int, ...], frozenset[int]]:
    return {}


_always = PerKind(_nothing_known)


def _is_spread(v: Variable) -> bool:
    """Whether it lies on several devices, or is one's share: a total may be typed, or lie, otherwise."""
    return v.sharding is not None or explicit_sharding(v.aval) is not None or is_manual(v.aval)


def _zeros_of(op: Operation, makers: dict[Variable, Operation]) -> Operation | None:
    """What makes the zeros that an operation adds to; None where it does something else."""
    if op.name != "scatter-add" or op.outputs[0].dtype.itemsize < _LEAST_BYTES:
        return None
    start = op.inputs[0]
    maker = makers.get(start) if isinstance(start, Variable) else None
    if maker is None or maker.name != "broadcast_in_dim" or start in op.inputs[1:]:
        return None
    (number,) = maker.inputs
    return maker if isinstance(number, Constant) and bool(np.all(np.asarray(number.value) == 0)) else None
