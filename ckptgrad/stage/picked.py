# pyright: reportUnknownMemberType=false
"""The gradient of entries that are picked, one of each row: the logits of labels in a cross-entropy, say.

To add them to what else is the gradient of the rows is a scatter.  Compilers fuse none with the elementwise work that makes
the rest, which then has a buffer of its own beside that of the logits, and is read and written once more.  Where the rest is
such work, entries are instead compared with the picked one: elementwise work too, fused into it.

A scatter into what is there anyway, as a buffer that a loop carries, stays one: it touches few entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.traits import is_materialised, is_modelled, is_same_numbers
from ckptgrad.graph.value_types import explicit_sharding, is_manual, struct


def compared(graph: Graph) -> Graph:
    """The graph with comparisons in place of scatters that add one entry to each row of what elementwise work makes."""
    found = [op for op in graph.operations if op.name == "scatter-add" and _picks_one(op) and _adds_to_fused_work(graph, op)]
    if not found:
        return graph
    chosen = set(found)
    operations = [new for op in graph.operations for new in (_by_comparison(op) if op in chosen else (op,))]
    return Graph(graph.inputs, graph.outputs, operations, graph.constants, graph.stage_marks)


def _picks_one(op: Operation) -> bool:
    """Whether a scatter adds to one entry along an axis, for each place along all the others."""
    whole, indices, updates = (a.aval for a in op.inputs)
    d = op.params["dimension_numbers"]
    if len(d.scatter_dims_to_operand_dims) != 1 or op.params["mode"] == lax.GatherScatterMode.CLIP:
        return False
    (axis,) = d.scatter_dims_to_operand_dims
    others = {*range(whole.ndim)} - {axis}
    if {*d.operand_batching_dims} != others or explicit_sharding(whole) is not None or is_manual(whole):
        return False
    rows = math.prod(n for k, n in enumerate(whole.shape) if k != axis)
    one_each = indices.size == rows == updates.size
    return one_each and indices.dtype in (np.dtype("int32"), np.dtype("int64")) and whole.shape[axis] > 1


def _adds_to_fused_work(graph: Graph, op: Operation) -> bool:
    """Whether what is added to is elementwise work, which nothing else reads: it is written once in any case."""
    v = op.inputs[0]
    while isinstance(v, Variable):
        maker = graph.get_operation(v)
        if maker is None or v in graph.outputs or len(graph.consuming_operations(v)) != 1:
            return False
        if not is_same_numbers(maker):
            return is_modelled(maker) and not is_materialised(maker) and maker.known_cost is None and len(maker.outputs) == 1
        v = maker.inputs[0]
    return False


def _by_comparison(op: Operation) -> Iterator[Operation]:
    """The operations that stand in place of a scatter, the last of which makes its result."""
    d = op.params["dimension_numbers"]
    (axis,) = d.scatter_dims_to_operand_dims

    def added(total: Any, indices: Any, updates: Any) -> Any:
        batch = dict(zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True))
        rest = [k for k in range(indices.ndim) if k not in batch.values()]
        order = [*(batch[k] for k in sorted(batch)), *rest]
        row = tuple(1 if k == axis else n for k, n in enumerate(total.shape))
        place = lax.reshape(lax.transpose(indices, order), row)
        # The axes of updates are those of the indices but the last, and windows of size one.
        windows = [k for k in range(updates.ndim) if k in d.update_window_dims]
        values = lax.squeeze(updates, windows)
        value = lax.reshape(lax.transpose(values, [k for k in order if k != indices.ndim - 1]), row)
        places = lax.broadcasted_iota(indices.dtype, total.shape, axis)
        here = lax.eq(places, jnp.broadcast_to(place, total.shape))
        return total + lax.select(here, jnp.broadcast_to(value, total.shape), lax.full_like(total, 0))

    part = from_jaxpr(jax.make_jaxpr(added)(*(struct(a.aval) for a in op.inputs)))
    names: dict[Any, Any] = dict(zip(part.inputs, op.inputs, strict=True))
    names[part.outputs[0]] = op.outputs[0]
    for new in part.operations:
        outputs = [names.setdefault(v, v) for v in new.outputs]
        inputs = [names.get(a, a) if isinstance(a, Variable) else a for a in new.inputs]
        yield Operation(new.primitive, inputs, outputs, new.params, op.source_info, op.context)
