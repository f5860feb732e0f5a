"""Buffers that a loop writes entry by entry, one a step, and may read.

Such a buffer is carried, but what it held at any step follows from what it holds at the end: entries that were written
by then are those of the end, the others those of the start.  So checkpoints need not hold it, and steps that run again
read from the buffer at the end.  Recognised from the graph of the body, where this can be proved: the place of the entry
that is written is a counter that starts at a known number, not negative, and grows by one; nothing is written but once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable

_SAME = frozenset({"convert_element_type", "broadcast_in_dim", "reshape", "squeeze"})


@dataclass(frozen=True)
class Written:
    """A carried buffer that is written entry by entry.

    Attributes:
        position: which of the carried values it is.
        counter: which of them counts.
        start: the first entry that is written.
    """

    position: int
    counter: int
    start: int


def written_buffers(body: Graph, num_consts: int, num_carry: int, init: Sequence[Atom], steps: int | None) -> list[Written]:
    """The carried buffers of a loop's body that are written entry by entry.

    Args:
        body: from constants, carried values and stacked inputs to carried values and stacked outputs.
        num_consts, num_carry: how many of these there are.
        init: the initial carried values; only constants are known.
        steps: how many there are, if that is known.
    """
    body = Graph(body.inputs, body.outputs, needed_operations(body.operations, body.outputs))
    carry = body.inputs[num_consts : num_consts + num_carry]
    counters = {}
    for k, (v, a) in enumerate(zip(carry, init, strict=True)):
        start = _number(a)
        if start is not None and start >= 0 and v.aval.shape == () and _grows_by_one(body, v, body.outputs[k]):
            counters[v] = k, start
    found = []
    for k, v in enumerate(carry):
        counter = _written_at(body, v, body.outputs[k], counters, steps)
        if counter is not None:
            found.append(Written(k, *counters[counter]))
    return found


def _number(atom: Atom) -> int | None:
    """The integer that an atom is known to be."""
    value = np.asarray(atom.value) if isinstance(atom, Constant) else None
    return int(value) if value is not None and value.shape == () and value.dtype.kind in "iu" else None


def _grows_by_one(body: Graph, before: Variable, after: Atom) -> bool:
    op = body.get_operation(after) if isinstance(after, Variable) else None
    if op is None or op.name != "add":
        return False
    return any(x is before and _number(y) == 1 for x, y in (op.inputs, op.inputs[::-1]))


def _written_at(
    body: Graph, buffer: Variable, after: Atom, counters: dict[Variable, Any], steps: int | None
) -> Variable | None:
    """The counter at which an entry of the buffer is written, if that and single reads are all that happens to it."""
    write = body.get_operation(after) if isinstance(after, Variable) and after is not buffer else None
    if write is None or not write.inputs or write.inputs[0] is not buffer or not buffer.aval.shape:
        return None
    if sum(a is after for a in body.outputs) > 1 or any(a is buffer for a in body.outputs):
        return None
    if any(body.consuming_operations(v) for v in write.outputs):
        return None
    if not all(op is write or _reads_one(op, buffer) for op in body.consuming_operations(buffer)):
        return None
    rows, place = buffer.aval.shape[0], None
    if write.name == "dynamic_update_slice" and write.inputs[1].aval.shape == (1, *buffer.aval.shape[1:]):
        place = _counter(body, write.inputs[2], counters)
        # What is beyond the end is written at the end.
        if place is not None and (steps is None or counters[place][1] + steps > rows):
            return None
    if write.name == "scatter" and _sets_one(write) and buffer not in write.inputs[1:]:
        place = _counter(body, write.inputs[1], counters)
        # What is beyond the end is dropped, or, in the other mode, is undefined already.
        if "CLIP" in str(write.params["mode"]):
            return None
    return place


def _sets_one(op: Operation) -> bool:
    d = op.params["dimension_numbers"]
    batching = (*d.operand_batching_dims, *d.scatter_indices_batching_dims)
    update, buffer = op.inputs[2].aval.shape, op.inputs[0].aval.shape
    return (
        d.scatter_dims_to_operand_dims == (0,) and d.inserted_window_dims == (0,) and not batching and update == buffer[1:]
    )


def _reads_one(op: Operation, buffer: Variable) -> bool:
    """Whether an operation reads one entry of the buffer, at any place."""
    sizes = op.params.get("slice_sizes")
    once = sum(a is buffer for a in op.inputs) == 1
    return op.name == "dynamic_slice" and once and op.inputs[0] is buffer and sizes == (1, *buffer.aval.shape[1:])


def _counter(body: Graph, atom: Atom, counters: dict[Variable, Any]) -> Variable | None:
    """The counter that an index is, seen through casts and the wrapping of negative indices."""
    while isinstance(atom, Variable):
        if atom in counters:
            return atom
        op = body.get_operation(atom)
        if op is None:
            return None
        if op.name in _SAME:
            atom = op.inputs[0]
        elif op.name == "select_n" and _is_negative(body, op.inputs[0], op.inputs[1], counters):
            atom = op.inputs[1]
        else:
            return None
    return None


def _is_negative(body: Graph, predicate: Atom, value: Atom, counters: dict[Variable, Any]) -> bool:
    """Whether a predicate asks if a counter is negative."""
    op = body.get_operation(predicate) if isinstance(predicate, Variable) else None
    if op is None or op.name != "lt" or _number(op.inputs[1]) != 0:
        return False
    counter = _counter(body, op.inputs[0], counters)
    return counter is not None and counter is _counter(body, value, counters)


@dataclass(frozen=True, eq=False)
class ReadBack:
    """Stands where `dynamic_slice` stands, and reads an entry of a written buffer as it was before a step.

    Takes, in place of the buffer, that at the end and that at the start; and, last, the counter.
    """

    start: int
    name: str = "dynamic_slice"
    multiple_results: bool = False

    def get_bind_params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"slice_sizes": params["slice_sizes"]}

    def bind(self, buffers: Any, *places: Any, slice_sizes: Sequence[int]) -> Any:
        *indices, counter = places
        at_end, at_start = (lax.dynamic_slice(b, indices, slice_sizes, allow_negative_indices=False) for b in buffers)
        entry = jnp.clip(indices[0], 0, buffers[0].shape[0] - 1)
        return jnp.where((entry >= self.start) & (entry < counter), at_end, at_start)


def reading_back(operations: Sequence[Operation], buffers: dict[Variable, tuple[Written, Variable]]) -> list[Operation]:
    """The operations with reads of written buffers replaced; `buffers` gives for each its counter's variable."""
    found = []
    for op in operations:
        known = buffers.get(op.inputs[0]) if op.name == "dynamic_slice" and op.inputs else None  # type: ignore[arg-type]
        if known is not None:
            written, counter = known
            primitive: Any = ReadBack(written.start)
            op = Operation(primitive, [*op.inputs, counter], op.outputs, op.params, op.source_info, op.context, op.effects)
        found.append(op)
    return found
