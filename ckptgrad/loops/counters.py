"""Counters of loops: carried integers that start at a known number and grow by one, and the values that they can have.

What is said here is proved, for every step: a counter that may wrap around in its dtype is not a counter, and an index is a
counter only where each cast on the way to it keeps every value that the counter has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable

# From the position of a carried value and the number at which it starts to the largest value with which a step begins,
# if it grows by one; None where that is not known.
Last: TypeAlias = Callable[[int, int], int | None]

# What passes on its input's value, but for the dtype; of the cost class `view` only these keep the value of a scalar.
_SAME = frozenset({"convert_element_type", "broadcast_in_dim", "reshape", "squeeze"})


@dataclass(frozen=True)
class Counter:
    """A carried integer that is `start` when the loop begins, grows by one each step, and is at most `last` in any step.

    `position` is its place among the carried values.
    """

    position: int
    start: int
    last: int


def counters_of(body: Graph, carry: Sequence[Variable], init: Sequence[Atom], last: Last) -> dict[Variable, Counter]:
    """The counters among the carried values of a loop's body that are never negative."""
    counters = {}
    for k, (v, a) in enumerate(zip(carry, init, strict=True)):
        start = known_integer(a)
        if start is None or start < 0 or v.aval.shape != () or not _grows_by_one(body, v, body.outputs[k]):
            continue
        highest = last(k, start)
        if highest is not None and keeps(v.aval.dtype, start, highest):
            counters[v] = Counter(k, start, max(start, highest))
    return counters


def last_of_steps(steps: int) -> Last:
    """For a loop of known length."""
    return lambda position, start: start + steps - 1


def last_by_predicate(predicate: Graph, offset: int) -> Last:
    """For a loop that goes on while a predicate holds, whose carried values are the predicate's inputs from `offset` on.

    A step begins where the predicate holds.  If it says that the counter is below something of its dtype, the counter is
    below the largest number of that dtype, and can grow by one.
    """

    def last(position: int, start: int) -> int | None:
        counter = predicate.inputs[offset + position]
        bounds = [b for op in _conjuncts(predicate, predicate.outputs[0]) if (b := _bound(op, counter)) is not None]
        return max(start, min(bounds)) if bounds else None

    return last


def _conjuncts(graph: Graph, atom: Atom) -> list[Operation]:
    """The operations that must all give true for a predicate to be true."""
    op = graph.get_operation(atom) if isinstance(atom, Variable) else None
    if op is None:
        return []
    if op.name == "and" and atom.aval.dtype == np.bool_:
        return [o for a in op.inputs for o in _conjuncts(graph, a)]
    return [op]


def _bound(op: Operation, counter: Variable) -> int | None:
    """The largest value of the counter for which a comparison holds."""
    if len(op.inputs) != 2:
        return None
    left, right = op.inputs
    if op.name in ("gt", "ge"):
        left, right = right, left
    if left is not counter or op.name not in ("lt", "gt", "le", "ge"):
        return None
    number = known_integer(right)
    if op.name in ("lt", "gt"):
        return int(jnp.iinfo(counter.aval.dtype).max if number is None else number) - 1
    return number


def counter_of_index(body: Graph, atom: Atom, counters: dict[Variable, Counter]) -> Variable | None:
    """The counter that an index is in every step, seen through casts and the wrapping of negative indices."""
    casts: list[Any] = []
    while isinstance(atom, Variable):
        counter = counters.get(atom)
        if counter is not None:
            return atom if all(keeps(dtype, counter.start, counter.last) for dtype in casts) else None
        op = body.get_operation(atom)
        if op is None:
            return None
        if op.name in _SAME:
            casts.append(atom.aval.dtype)
            atom = op.inputs[0]
        elif op.name == "select_n" and _is_never_negative(body, op.inputs[0], counters):
            atom = op.inputs[1]
        else:
            return None
    return None


def _is_never_negative(body: Graph, predicate: Atom, counters: dict[Variable, Counter]) -> bool:
    """Whether a predicate asks if a counter is negative, which none is."""
    op = body.get_operation(predicate) if isinstance(predicate, Variable) else None
    if op is None or op.name != "lt" or known_integer(op.inputs[1]) != 0:
        return False
    return counter_of_index(body, op.inputs[0], counters) is not None


def keeps(dtype: Any, low: int, high: int) -> bool:
    """Whether a dtype holds every integer of a range exactly."""
    if dtypes.issubdtype(dtype, np.integer):
        info = jnp.iinfo(dtype)
        return int(info.min) <= low and high <= int(info.max)
    if dtypes.issubdtype(dtype, np.floating):
        info = jnp.finfo(dtype)
        exact = min(2 ** (int(info.nmant) + 1), float(info.max))
        return -exact <= low and high <= exact
    return False


def known_integer(atom: Atom) -> int | None:
    """The integer that an atom is known to be."""
    value = np.asarray(atom.value) if isinstance(atom, Constant) else None
    return int(value) if value is not None and value.shape == () and value.dtype.kind in "iu" else None


def _grows_by_one(body: Graph, before: Variable, after: Atom) -> bool:
    op = body.get_operation(after) if isinstance(after, Variable) else None
    if op is None or op.name != "add":
        return False
    return any(x is before and known_integer(y) == 1 for x, y in (op.inputs, op.inputs[::-1]))
