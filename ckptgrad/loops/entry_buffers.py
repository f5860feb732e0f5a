"""Buffers that a loop writes entry by entry, one per step, and may read.

Such a buffer is carried, but what it held at any step follows from what it holds at the end: entries that were written
by then are those of the end, the others those of the start.  So checkpoints need not hold it, and steps that run again
read from the buffer at the end.  Recognised from the graph of the body, where this is proved: the place of the entry
that is written is a counter (see `counters`) in every step, so that no entry is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable
from ckptgrad.loops.counters import Counter, Last, counter_of_index, counters_of

_INT32 = int(np.iinfo(np.int32).max)
# Ways to scatter in which an index beyond the end writes nothing, or is promised not to occur.
_DROPPING = (lax.GatherScatterMode.FILL_OR_DROP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)


@dataclass(frozen=True)
class EntryBuffer:
    """A carried buffer that is written entry by entry.

    Attributes:
        position: its place among the carried values.
        counter: the place of the counter at which an entry is written.
        start: the first entry that is written.
    """

    position: int
    counter: int
    start: int


def entry_buffers_of(body: Graph, num_consts: int, num_carry: int, init: Sequence[Atom], last: Last) -> list[EntryBuffer]:
    """The carried buffers of a loop's body that are written entry by entry.

    Args:
        body: from constants, carried values and stacked inputs to carried values and stacked outputs.
        num_consts, num_carry: the numbers of constants and of carried values.
        init: the initial carried values, of which only constants are known.
        last: the largest value of a counter, where that is known.
    """
    body = Graph(body.inputs, body.outputs, needed_operations(body.operations, body.outputs))
    carry = body.inputs[num_consts : num_consts + num_carry]
    counters = {v: c for v, c in counters_of(body, carry, init, last).items() if _is_comparable(v, c)}
    buffers = []
    for k, v in enumerate(carry):
        counter = _written_at(body, v, body.outputs[k], counters)
        if counter is not None:
            buffers.append(EntryBuffer(k, counters[counter].position, counters[counter].start))
    return buffers


def _is_comparable(variable: Variable, counter: Counter) -> bool:
    """Whether a read can compare its place with the counter, as 32-bit integers or in the counter's own dtype."""
    return counter.last <= _INT32 or variable.aval.dtype == np.int64


def _written_at(body: Graph, buffer: Variable, after: Atom, counters: dict[Variable, Counter]) -> Variable | None:
    """The counter at which an entry of the buffer is written, if nothing else but reads of one entry happens to it."""
    write = body.get_operation(after) if isinstance(after, Variable) and after is not buffer else None
    if write is None or not buffer.aval.shape or buffer.aval.shape[0] > _INT32:
        return None
    if not write.inputs or write.inputs[0] is not buffer or any(a is buffer for a in write.inputs[1:]):
        return None
    if sum(a is after for a in body.outputs) > 1 or any(a is buffer for a in body.outputs):
        return None
    if any(body.consuming_operations(v) for v in write.outputs):
        return None
    if not all(op is write or _reads_one(op, buffer) for op in body.consuming_operations(buffer)):
        return None
    if write.name == "dynamic_update_slice" and write.inputs[1].aval.shape == (1, *buffer.aval.shape[1:]):
        place = counter_of_index(body, write.inputs[2], counters)
        # What is beyond the end is written at the end.
        return place if place is not None and counters[place].last < buffer.aval.shape[0] else None
    if write.name == "scatter" and _sets_one(write):
        return counter_of_index(body, write.inputs[1], counters)
    return None


def _sets_one(op: Operation) -> bool:
    """Whether a scatter replaces one entry, and nothing where that is beyond the end."""
    d = op.params["dimension_numbers"]
    buffer, indices, update = (a.aval.shape for a in op.inputs[:3])
    return (
        op.params["update_jaxpr"] is None
        and op.params["mode"] in _DROPPING
        and indices == (1,)
        and update == buffer[1:]
        and tuple(d.update_window_dims) == tuple(range(len(update)))
        and tuple(d.scatter_dims_to_operand_dims) == tuple(d.inserted_window_dims) == (0,)
        and not (*d.operand_batching_dims, *d.scatter_indices_batching_dims)
    )


def _reads_one(op: Operation, buffer: Variable) -> bool:
    """Whether an operation reads one entry of the buffer, at any place."""
    sizes = op.params.get("slice_sizes")
    once = sum(a is buffer for a in op.inputs) == 1
    return op.name == "dynamic_slice" and once and op.inputs[0] is buffer and sizes == (1, *buffer.aval.shape[1:])


@dataclass(frozen=True, eq=False)
class ReadBack:
    """Stands where `dynamic_slice` stands, and reads an entry of a buffer as it was before a step.

    Takes, in place of the buffer, the pair of the buffer at the end and at the start; and, as its last operand, the counter.
    """

    start: int
    name: str = "dynamic_slice"
    multiple_results: bool = False

    def get_bind_params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"slice_sizes": params["slice_sizes"]}

    def bind(self, buffers: Any, *places: Any, slice_sizes: Sequence[int]) -> Any:
        index, counter = jnp.asarray(places[0]), jnp.asarray(places[-1])
        # As the operation does: a place beyond the buffer is the nearest one in it.
        limit = min(buffers[0].shape[0] - 1, int(jnp.iinfo(index.dtype).max))
        entry = jnp.clip(index, 0, limit).astype(np.int32)
        at_end, at_start = (lax.dynamic_slice(b, (entry, *[np.int32(0)] * (b.ndim - 1)), slice_sizes) for b in buffers)
        counter = counter.astype(np.int64 if counter.dtype == np.int64 else np.int32)
        return jnp.where((entry >= self.start) & (entry < counter), at_end, at_start)


def reading_back(operations: Sequence[Operation], buffers: dict[Variable, tuple[EntryBuffer, Variable]]) -> list[Operation]:
    """The operations with reads of entry buffers replaced.

    Args:
        operations: of the joint graph of a body.
        buffers: from the variable of each buffer to the buffer and its counter's variable.
    """
    replaced = []
    for op in operations:
        known = buffers.get(op.inputs[0]) if op.name == "dynamic_slice" and op.inputs else None  # type: ignore[arg-type]
        if known is not None:
            buffer, counter = known
            primitive: Any = ReadBack(buffer.start)
            op = Operation(primitive, [*op.inputs, counter], op.outputs, op.params, op.source_info, op.context, op.effects)
        replaced.append(op)
    return replaced
