# pyright: reportUnknownMemberType=false
"""The devices that a program names: those of the meshes in its operations and in the shardings of its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import AbstractMesh, Mesh, Sharding

from ckptgrad.graph.graph import Graph


def devices_named(graph: Graph) -> set[Any]:
    """All devices of meshes that stand in a graph, at any depth; meshes without devices, which stand in types, have none."""
    values = [v.sharding for v in graph.variables]
    return {d for x in (*values, *_named(graph)) for found in _meshes(x) for d in _devices(found)}


def meshes_named(graph: Graph) -> list[Mesh | AbstractMesh]:
    """The meshes that stand in the operations of a graph, at any depth."""
    return [found for x in _named(graph) for found in _meshes(x) if not isinstance(found, Sharding)]


def _named(graph: Graph) -> Iterator[Any]:
    return (op.params for op in graph.operations)


def _meshes(value: Any) -> Iterator[Mesh | AbstractMesh | Sharding]:
    """The meshes in a value, and the shardings that have none."""
    if isinstance(value, ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, Jaxpr):
        for equation in value.eqns:
            yield from _meshes(equation.params)
    elif isinstance(value, dict):
        yield from _meshes(tuple(cast(dict[Any, Any], value).values()))
    elif isinstance(value, (tuple, list)):
        for part in cast(Iterable[Any], value):
            yield from _meshes(part)
    elif isinstance(value, (Mesh, AbstractMesh)):
        yield value
    elif isinstance(value, Sharding):
        yield getattr(value, "mesh", value)


def _devices(found: Mesh | AbstractMesh | Sharding) -> Iterable[Any]:
    if isinstance(found, Mesh):
        return () if found.empty else found.devices.flat
    # The set of devices of an abstract mesh cannot be asked for.
    return () if isinstance(found, AbstractMesh) else cast("Iterable[Any]", found.device_set)
