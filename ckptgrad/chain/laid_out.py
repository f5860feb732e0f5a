"""Where the values of a traced function lie on several devices, asked once for each program and shardings of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.sharding import NamedSharding

from ckptgrad.chain.recent import Recent
from ckptgrad.graph.fingerprint import segment_key
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.target.laid_out import lay_out, stated_by_types
from ckptgrad.target.partitioner import mesh_of

_RECENT = Recent()


@dataclass(frozen=True, eq=False)
class _Layout:
    shardings: tuple[tuple[NamedSharding | None, bool], ...]


def lay_out_graph(graph: Graph, shardings: Sequence[NamedSharding | None]) -> None:
    """Set the shardings of the values of a graph.

    Args:
        graph: the forward graph of a call.
        shardings: those of its first inputs; None where an argument is on one device, or its sharding is not known.
    """
    variables: list[Variable] = graph.variables
    known = dict(zip(graph.inputs, shardings, strict=False))
    known.update((v, x.sharding) for v, x in graph.constants.items() if _is_placed(x))
    if mesh_of(known.values()) is None and not stated_by_types(variables):
        return
    inputs = (*graph.inputs, *graph.constants)
    key = (segment_key(graph.operations, inputs, graph.outputs), tuple(known.get(v) for v in inputs))
    layout: _Layout | None = _RECENT.get(key)
    if layout is None:
        lay_out(graph.operations, inputs, known)
        layout = _Layout(tuple((v.sharding, v.loose) for v in variables))
        _RECENT.put(key, layout, (op.params for op in graph.operations))
    for v, (sharding, loose) in zip(variables, layout.shardings, strict=True):
        v.sharding, v.loose = sharding, loose


def _is_placed(value: object) -> bool:
    return isinstance(value, jax.Array) and isinstance(getattr(value, "sharding", None), NamedSharding)
