"""The operations of a function, for what takes a run of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import ckptgrad as cg
from ckptgrad.graph.graph import Graph, Operation, Variable, variables_of


def graph_of(fun: Callable[..., Any], *args: Any) -> tuple[Graph, Sequence[Operation], list[Variable]]:
    """The graph of a function, its operations and its results."""
    graph = cg.trace(fun, *args)
    return graph, graph.operations, variables_of(graph.outputs)


def names_of(operations: Sequence[Operation], values: Collection[Variable]) -> list[str]:
    """The names of the operations that make some values."""
    return [op.name for op in operations if any(v in values for v in op.outputs)]
