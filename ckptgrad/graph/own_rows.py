# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Entries that are read or written one row each, as in `logits[jnp.arange(n), labels]`: the counter becomes a batching axis.

Where it is proved that a place along an axis is the place along an axis of the indices, and both are as long, row k reads or
writes of row k alone. A gather or scatter says so by a pair of batching axes, as that of `jax.vmap` does, and does the same:
the place was never outside. What follows axes, or the gradient of picked entries, then needs no proof of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.core import Tracer

from ckptgrad.graph.atoms import Atom, Constant, Variable
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.value_types import explicit_sharding, is_manual

# Captured indices with more entries than this are not looked at.
_MANY = 1 << 20


def on_own_rows(
    op: Operation, makers: Mapping[Variable, Operation], constants: Mapping[Variable, Any]
) -> Sequence[Operation]:
    """The operations in place of a gather or scatter, with axes along which row k is for row k as batching axes.

    Args:
        op: any operation; others than such stay as they are.
        makers: by its results the operation that makes them, of all that stand before.
        constants: captured values.
    """
    form = _FORMS.get(op.name)
    if form is None or explicit_sharding(op.inputs[0].aval) is not None or is_manual(op.inputs[0].aval):
        return (op,)
    joined = makers.get(op.inputs[1]) if isinstance(op.inputs[1], Variable) else None
    last = len(op.inputs[1].aval.shape) - 1
    if joined is None or joined.name != "concatenate" or joined.params["dimension"] != last:
        return (op,)
    if any(part.aval.shape[last] != 1 for part in joined.inputs):
        return (op,)
    counters = _Counters(makers, constants)
    numbers = op.params["dimension_numbers"]
    single, places, own_of_indices = (getattr(numbers, name) for name in form)
    batching = dict(zip(numbers.operand_batching_dims, own_of_indices, strict=True))
    rest: list[tuple[int, Atom]] = []
    for d, part in zip(places, joined.inputs, strict=True):
        axis = counters.axis(part)
        is_own = axis is not None and axis != last and axis not in batching.values() and d in single
        if axis is not None and is_own and op.inputs[0].aval.shape[d] == part.aval.shape[axis]:
            batching[d] = axis
        else:
            rest.append((d, part))
    if not rest or len(rest) == len(joined.inputs):
        return (op,)
    parts = [part for _, part in rest]
    before: list[Operation] = []
    indices = parts[0]
    if len(parts) > 1:
        aval = joined.outputs[0].aval
        indices = Variable(aval.update(shape=(*aval.shape[:last], len(parts))))
        before = [joined.replace(parts, [indices])]
    own = sorted(batching)
    renumbered = (
        tuple(d for d in single if d not in batching),
        tuple(d for d, _ in rest),
        tuple(batching[d] for d in own),
    )
    changed = numbers._replace(**dict(zip(form, renumbered, strict=True)), operand_batching_dims=tuple(own))
    moved = op.replace([op.inputs[0], indices, *op.inputs[2:]], op.outputs)
    # Where each row has one place only, no two are the same.
    unique = op.name != "gather" and (op.params["unique_indices"] or len(batching) == last)
    return *before, moved.with_params(dimension_numbers=changed, indices_are_sorted=False, unique_indices=unique)


# Of gathers and scatters the names of: axes of which one place is taken, those that indices are of, batching axes of these.
_OF_GATHER = ("collapsed_slice_dims", "start_index_map", "start_indices_batching_dims")
_OF_SCATTER = ("inserted_window_dims", "scatter_dims_to_operand_dims", "scatter_indices_batching_dims")
_FORMS = {"gather": _OF_GATHER} | dict.fromkeys(
    ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"), _OF_SCATTER
)


class _Counters:
    """Which integers are their own places along an axis, of all that a trace has made so far."""

    def __init__(self, makers: Mapping[Variable, Operation], constants: Mapping[Variable, Any]) -> None:
        self._makers, self._constants = makers, constants

    def axis(self, atom: Atom) -> int | None:
        """The axis along which each entry of integers is its place; None where that is not proved.

        Arithmetic on places stays within what their dtype holds: it is checked where they are made, or converted.
        """
        if not isinstance(atom, Variable) or not _is_integer(atom):
            return None
        if atom in self._constants:
            return _counted(self._constants[atom])
        op = self._makers.get(atom)
        followed = None if op is None else _FOLLOWED.get(op.name)
        return None if op is None or followed is None else followed(self, op)

    def iota(self, op: Operation) -> int | None:
        axis = op.params["dimension"]
        return axis if _holds(op.outputs[0], op.params["shape"][axis]) else None

    def converted(self, op: Operation) -> int | None:
        axis = self.axis(op.inputs[0])
        return axis if axis is not None and _holds(op.outputs[0], op.outputs[0].shape[axis]) else None

    def same(self, op: Operation) -> int | None:
        return self.axis(op.inputs[0])

    def broadcast(self, op: Operation) -> int | None:
        axis = self.axis(op.inputs[0])
        if axis is None:
            return None
        place = op.params["broadcast_dimensions"][axis]
        return place if op.inputs[0].aval.shape[axis] == op.params["shape"][place] else None

    def reshaped(self, op: Operation) -> int | None:
        """Axes of one place come or go."""
        axis, before, after = self.axis(op.inputs[0]), op.inputs[0].aval.shape, op.outputs[0].shape
        long = [[d for d, n in enumerate(shape) if n != 1] for shape in (before, after)]
        if axis not in long[0] or [before[d] for d in long[0]] != [after[d] for d in long[1]]:
            return None
        return long[1][long[0].index(axis)]

    def unless_negative(self, op: Operation) -> int | None:
        """A choice between a place and another value where the place is below zero, which it never is."""
        which, *cases = op.inputs
        return self.axis(cases[0]) if isinstance(which, Variable) and self._is_never(which) else None

    def _is_never(self, test: Variable) -> bool:
        """Whether a condition is false everywhere: that a place is below zero, or what was captured."""
        op = self._makers.get(test)
        if op is None:
            value = _captured(self._constants.get(test))
            return value is not None and not value.any()
        return op.name == "lt" and _is_value(op.inputs[1], 0) and self.axis(op.inputs[0]) is not None

    def plus(self, op: Operation) -> int | None:
        return self._beside(op, 0)

    def times(self, op: Operation) -> int | None:
        return self._beside(op, 1)

    def _beside(self, op: Operation, neutral: int) -> int | None:
        left, right = op.inputs
        return self.axis(left) if _is_value(right, neutral) else self.axis(right) if _is_value(left, neutral) else None


_FOLLOWED = {
    "iota": _Counters.iota,
    "convert_element_type": _Counters.converted,
    "broadcast_in_dim": _Counters.broadcast,
    "reshape": _Counters.reshaped,
    "squeeze": _Counters.reshaped,
    "copy": _Counters.same,
    "select_n": _Counters.unless_negative,
    "add": _Counters.plus,
    "mul": _Counters.times,
}


def _is_integer(atom: Atom) -> bool:
    return np.issubdtype(getattr(atom.aval, "dtype", np.dtype(bool)), np.integer)


def _holds(v: Variable, size: int) -> bool:
    """Whether integers of its dtype count to this size."""
    return _is_integer(v) and size - 1 <= np.iinfo(v.dtype).max


def _is_value(atom: Atom, value: int) -> bool:
    return isinstance(atom, Constant) and np.ndim(atom.value) == 0 and bool(atom.value == value)


def _captured(value: Any) -> np.ndarray[Any, Any] | None:
    """A captured array, unless it is large or not here."""
    if not isinstance(value, (np.ndarray, jax.Array)) or isinstance(value, Tracer):
        return None
    array = cast("jax.Array", value)
    return np.asarray(array) if array.size <= _MANY and getattr(array, "is_fully_addressable", True) else None


def _counted(value: Any) -> int | None:
    """The axis along which captured integers are their own places."""
    numbers = _captured(value)
    if numbers is None:
        return None
    for d, n in enumerate(numbers.shape):
        places = np.arange(n, dtype=np.int64)
        if n > 1 and np.array_equal(
            np.moveaxis(numbers, d, -1), np.broadcast_to(places, (*numbers.shape[:d], *numbers.shape[d + 1 :], n))
        ):
            return d
    return None
