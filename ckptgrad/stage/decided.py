# pyright: reportUnknownMemberType=false
"""Decisions about a value by numbers taken from it: they are made once, in the forward, and kept.

`z == z.max()` holds where z is the largest, bit for bit.  Made again beside a maximum that was kept, z is rounded otherwise
in another loop of the compiler, and nothing equals it any more: the backward would follow another choice than the forward.
Within one program a barrier keeps z in one array, which all that compare it read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Jaxpr, Literal, Primitive

from ckptgrad.compat import HI_CALL
from ckptgrad.graph.graph import Constant, Operation, Variable, variables_of
from ckptgrad.graph.traits import compares_values, cost_class, mixes_numbers
from ckptgrad.graph.work import inner_programs

# What jumps where its operands change a little, besides numbers that become integers.
_JUMPS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "sign", "floor", "ceil", "round"))
# Operations behind a jump that are looked at; with more, what it makes is kept unseen.
MOST = 1000


def decided(operations: Sequence[Operation]) -> list[Variable]:
    """What jumps at values that meet numbers which were moved or chosen from the same array.

    Elementwise arithmetic may lie between, as in `z - z.max() >= 0`.  Sums and products, with masks, pick numbers too: they
    count where both sides of a comparison come from the same array, not where something of both is compared with a number,
    as every relu behind a norm does.  Where a loop or another program decides inside, by values that it is given, these
    count too: its backward may run it again on them.

    Args:
        operations: those of a forward pass, in order.
    """
    found: list[Variable] = []
    for op, values in _decisions(operations):
        given = _jumps_inside(op)
        found += [v for v in op.outputs if not (given and _is_inexact(v))]
        found += (values or filter(_is_inexact, variables_of(op.inputs))) if given else []
    return found


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
    jumping = [op for op in operations if _jumps(op.name, op.inputs, op.outputs) or _jumps_inside(op)]
    makers = {v: (i, op) for i, op in enumerate(operations) for v in op.outputs} if jumping else {}
    for op in jumping:
        behind = _behind(op, makers, compares_values(op))
        met = [] if behind is None else _met([*behind, op])
        if met or behind is None:
            yield op, met


def _jumps(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether an operation of a name jumps; its inputs are variables, constants and literals."""
    given = any(_is_inexact(a) and not isinstance(a, (Constant, Literal)) for a in inputs)
    # JAX's own search, among others, is a call that shows no program.
    to_integers = name in ("convert_element_type", HI_CALL) and not all(map(_is_inexact, outputs))
    return given and (name in _JUMPS or to_integers)


def _jumps_inside(op: Operation) -> bool:
    """Whether something jumps in the programs of an operation, or in a loop that is left open."""
    in_loop: Sequence[Operation] = getattr(op.params.get("loop"), "forward_operations", ())
    if any(_jumps(o.name, o.inputs, o.outputs) or _jumps_inside(o) for o in in_loop):
        return True
    return any(map(_program_jumps, inner_programs(op.params)))


def _program_jumps(program: Jaxpr) -> bool:
    return any(
        _jumps(e.primitive.name, e.invars, e.outvars) or any(map(_program_jumps, inner_programs(e.params)))
        for e in program.eqns
    )


def _is_inexact(v: Any) -> bool:
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
