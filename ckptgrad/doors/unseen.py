"""Budgets in bytes, which are for one device, where a trace does not see how arguments lie over several."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType

from ckptgrad.bytes import is_in_bytes
from ckptgrad.doors.calling import Call
from ckptgrad.doors.said_once import SaidOnce
from ckptgrad.errors import OptionError, ShardingWarning
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.meshes import meshes_named
from ckptgrad.graph.naming import title
from ckptgrad.graph.value_types import is_manual
from ckptgrad.request import Request
from ckptgrad.target.attached import all_devices

_SAID = SaidOnce()
_LINES: dict[Any, Any] = {}


def check_is_seen(call: Call, graph: Graph, request: Request) -> None:
    """Reject a budget in bytes while a call is traced by `jax.jit` on a mesh with automatic axes.

    A mesh is seen in the types of arguments, around the trace, or in the function's own operations.  Where none is, and
    there are several devices, it is said that arguments are taken to lie on one.

    Args:
        call: of which no sharding is known.
        graph: what was traced.
        request: what is asked for.

    Raises:
        OptionError: nothing says how the arguments lie on the mesh.
    """
    if not is_in_bytes(request.budget) or not _types(call):
        return
    size = unseen_devices(call, graph)
    if size > 1:
        raise OptionError(
            f"a budget in bytes is for one device, and while {title(call.original)} is traced by jax.jit on a mesh of "
            f"{size} devices nothing says how its arguments lie on it; pass shardings= (NamedShardings, as for "
            f"in_shardings of jax.jit), call .compile(...) on arrays, or give a share as in '0.5x'"
        )
    count = len(all_devices())
    if request.compiled_for.attached and count > 1 and _SAID.first_of(call.original):
        warning = ShardingWarning(title(call.original), count)
        warnings.warn_explicit(warning, ShardingWarning, "ckptgrad", 1, registry=_LINES)


def unseen_devices(call: Call, graph: Graph) -> int:
    """The number of devices of the mesh with automatic axes on which a call is traced by `jax.jit`; 1 where there is none.

    Args:
        call: of which no sharding is known.
        graph: what was traced.
    """
    automatic = (mesh for mesh in _meshes(_types(call), graph) if {*mesh.axis_types} == {AxisType.Auto})
    return max((mesh.size for mesh in automatic), default=1) if _types(call) else 1


def _types(call: Call) -> list[Any]:
    """The types of the tracers of a call; none inside a `shard_map`, where all is of one device."""
    types = [jax.typeof(x) for x in call.leaves if isinstance(x, Tracer)]
    return [] if any(map(is_manual, types)) else types


def _meshes(types: list[Any], graph: Graph) -> Iterator[Any]:
    """The meshes that are seen: of types, around the trace, in operations."""
    for kind in types:
        mesh = getattr(getattr(kind, "sharding", None), "mesh", None)
        if mesh is not None:
            yield mesh
    yield jax.sharding.get_abstract_mesh()
    yield from meshes_named(graph)
