# pyright: reportUnknownMemberType=false
"""The devices that a program names: those of the meshes in its operations and in the shardings of its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh, Sharding

from ckptgrad.graph.graph import Graph


def devices_named(graph: Graph) -> set[Any]:
    """All devices of meshes that stand in a graph, at any depth; meshes without devices, which stand in types, have none."""
    values = [v.sharding for v in graph.variables]
    return {d for x in (*values, *(op.params for op in graph.operations)) for d in _devices(x)}


def _devices(value: Any) -> Iterator[Any]:
    if isinstance(value, ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, Jaxpr):
        for equation in value.eqns:
            yield from _devices(equation.params)
    elif isinstance(value, dict):
        yield from _devices(tuple(cast(dict[Any, Any], value).values()))
    elif isinstance(value, (tuple, list)):
        for part in cast(Iterable[Any], value):
            yield from _devices(part)
    elif isinstance(value, Mesh):
        yield from () if value.empty else value.devices.flat
    elif isinstance(value, Sharding):
        mesh = getattr(value, "mesh", None)
        # The set of devices of an abstract mesh cannot be asked for.
        yield from (value.device_set if mesh is None else _devices(mesh))
