# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How the arguments of a call lie over several devices: as they say themselves, or as the user says of tracers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from ckptgrad.doors.calling import Call
from ckptgrad.errors import OptionError
from ckptgrad.graph.naming import title
from ckptgrad.graph.value_types import is_manual
from ckptgrad.request import Request
from ckptgrad.target.partitioner import names_devices
from ckptgrad.target.placed import on_devices
from ckptgrad.target.target import Target

Shardings = tuple[NamedSharding | None, ...]


def leaf_shardings(call: Call, request: Request) -> Shardings:
    """The shardings of the leaves of a call; None for what is on one device, or where it is not known.

    For a target that is not attached, what lies over several other devices lies alike over the target's.

    Raises:
        OptionError: `shardings` does not fit the arguments, or the target has fewer devices than they name.
    """
    target = request.compiled_for

    def there(sharding: NamedSharding | None) -> NamedSharding | None:
        return sharding if sharding is None or target.attached else on_devices(sharding, target.devices)

    if request.shardings is not None:
        return tuple(map(there, _given(call, request.shardings)))
    return tuple(
        _on_one(x, target) if isinstance(x, Tracer) else there(_on_mesh(getattr(x, "sharding", None))) for x in call.leaves
    )


def _given(call: Call, shardings: Any) -> Shardings:
    def is_none(x: Any) -> bool:
        return x is None

    try:
        full = jax.tree.broadcast(tuple(shardings), call.args, is_leaf=is_none)
    except (TypeError, ValueError) as error:
        raise OptionError(f"shardings= does not fit the arguments of {title(call.original)}: {error}") from error
    # Leaves of the keywords come last.
    of_args = [_on_mesh(_understood(s, call)) for s in jax.tree.leaves(full, is_leaf=is_none)]
    return (*of_args, *[None] * (len(call.leaves) - len(of_args)))


def _understood(given: Any, call: Call) -> Sharding | None:
    """One of `shardings=`.

    Raises:
        OptionError: it is neither a sharding nor None: a specification alone says no mesh.
    """
    if given is None or isinstance(given, Sharding):
        return given
    raise OptionError(
        f"shardings= for {title(call.original)} has {given!r}, a {type(given).__name__}; write None for what is on one "
        f"device, or jax.sharding.NamedSharding(mesh, PartitionSpec(...)), which says over which mesh it lies"
    )


def _on_one(tracer: Tracer, target: Target) -> NamedSharding | None:
    """The sharding of a tracer whose type names a mesh of one device, which can only be the target's."""
    kind = jax.typeof(tracer)
    mesh = getattr(getattr(kind, "sharding", None), "mesh", None)
    # Inside a `shard_map` it is one device's share already.
    if mesh is None or mesh.size != 1 or not mesh.axis_names or not target.devices or is_manual(kind):
        return None
    there = Mesh(np.array(target.devices[:1]).reshape(mesh.axis_sizes), mesh.axis_names, mesh.axis_types)
    return NamedSharding(there, PartitionSpec())


def _on_mesh(sharding: Any) -> NamedSharding | None:
    """A sharding over a mesh; one of a single device counts, because types of values name it."""
    return sharding if isinstance(sharding, NamedSharding) and names_devices(sharding) else None
