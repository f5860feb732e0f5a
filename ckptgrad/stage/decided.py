# pyright: reportUnknownMemberType=false
"""Decisions about a value by numbers taken from it: they are made once, in the forward, and kept.

`z == z.max()` holds where z is the largest, bit for bit.  Made again beside a maximum that was kept, z is rounded otherwise
in another loop of the compiler, and nothing equals it any more: the backward would follow another choice than the forward.
Within one program a barrier keeps z in one array, which all that compare it read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import cost_class, mixes_numbers

# What jumps where its operands change a little, besides numbers that become integers.
_JUMPS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "sign", "floor", "ceil", "round"))
# Operations behind a jump that are looked at; with more, what it makes is kept unseen.
MOST = 1000
# Of these a side may be numbers that a sum with a mask, or a product with one, picked from the other.
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


def decided(operations: Sequence[Operation]) -> list[Variable]:
    """What jumps at values that meet numbers which were moved or chosen from the same array.

    Elementwise arithmetic may lie between, as in `z - z.max() >= 0`.  Sums and products, with masks, pick numbers too: they
    count where both sides of a comparison come from the same array, not where something of both is compared with a number,
    as every relu behind a norm does.

    Args:
        operations: those of a forward pass, in order.
    """
    return [v for op, _ in _decisions(operations) for v in op.outputs]


def with_barriers(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The same operations with a barrier behind each that makes what is compared with numbers taken from it."""
    compared = {v for _, values in _decisions(operations) for v in values}
    return tuple(new for op in operations for new in _behind_barriers(op, compared))


def _behind_barriers(op: Operation, compared: set[Variable]) -> Iterable[Operation]:
    held = {v: Variable(v.aval, v.sharding) for v in op.outputs if v in compared}
    if not held:
        return [op]
    barriers = [Operation(_barrier(), [free], [v], {}, op.source_info) for v, free in held.items()]
    return [op.replace(op.inputs, [held.get(v, v) for v in op.outputs]), *barriers]


@cache
def _barrier() -> Primitive:
    return jax.make_jaxpr(lax.optimization_barrier)(0.0).eqns[0].primitive


def _decisions(operations: Sequence[Operation]) -> Iterator[tuple[Operation, list[Variable]]]:
    """The operations that jump, each with the values that meet numbers taken from them behind it."""
    jumping = [op for op in operations if _jumps(op)]
    makers = {v: (i, op) for i, op in enumerate(operations) for v in op.outputs} if jumping else {}
    for op in jumping:
        behind = _behind(op, makers, op.name in _COMPARISONS and len({*variables_of(op.inputs)}) > 1)
        met = [] if behind is None else _met([*behind, op])
        if met or behind is None:
            yield op, met


def _jumps(op: Operation) -> bool:
    given = any(_is_inexact(v) for v in variables_of(op.inputs))
    to_integers = op.name == "convert_element_type" and not _is_inexact(op.outputs[0])
    return given and (op.name in _JUMPS or to_integers)


def _is_inexact(v: Variable) -> bool:
    dtype = getattr(v.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _behind(op: Operation, makers: Mapping[Variable, tuple[int, Operation]], mixed: bool) -> list[Operation] | None:
    """The operations that lead to one since the last that sum, or with `mixed` all, in order; None where they are many."""
    found: dict[int, Operation] = {}
    waiting = [*variables_of(op.inputs)]
    while waiting:
        i, maker = makers.get(waiting.pop(), (-1, op))
        if i >= 0 and i not in found and (mixed or not mixes_numbers(maker)):
            found[i] = maker
            waiting += variables_of(maker.inputs)
            if len(found) >= MOST:
                return None
    return [found[i] for i in sorted(found)]


def _met(operations: Sequence[Operation]) -> list[Variable]:
    """The values that meet numbers taken from them, on the way to the last operation."""
    # Sets of values as bits: those whose numbers lie where they were, and those whose numbers were moved or chosen.
    names: list[Variable] = []
    bits: dict[Variable, int] = {}
    still: dict[Variable, int] = {}
    moved: dict[Variable, int] = {}
    met: dict[Variable, int] = {}
    for op in operations:
        read_ = list(dict.fromkeys(variables_of(op.inputs)))
        for v in (*read_, *op.outputs):
            if v not in bits:
                bits[v] = still[v] = 1 << len(names)
                names.append(v)
        found = here = there = 0
        for v in read_:
            taken = moved.get(v, 0)
            # Of nested values the last: what made it is behind it.
            pairs = (((still[w] | moved.get(w, 0)) & taken).bit_length() for w in read_ if w is not v)
            found |= met.get(v, 0) | _union(1 << (n - 1) for n in pairs if n)
            here, there = here | still[v], there | taken
        moves = cost_class(op.name) not in ("elementwise", "transcendental")
        for v in op.outputs:
            still[v] = bits[v] if moves else bits[v] | here
            moved[v] = here | there if moves else there
            # What was summed is no jump: a number that it is compared with is none of the array's.
            met[v] = 0 if mixes_numbers(op) else found
    last = _union(met[v] for v in operations[-1].outputs)
    return [v for v in names if bits[v] & last]


def _union(sets: Iterable[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found
