# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Arguments of a program for devices that are not here: their types, placed on these devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding


def placed(tree: Any, devices: Sequence[Any]) -> Any:
    """The types of the leaves of `tree`, each with a sharding on `devices`.

    Those that have one keep it.  Others go along with them, whole on every device of the mesh, as JAX treats arrays that
    the user has not placed; without a mesh they are on the first device.
    """
    there = {*devices}
    shardings = [x.sharding for x in jax.tree.leaves(tree) if _is_there(x, there)]
    mesh = next((s.mesh for s in shardings if isinstance(s, NamedSharding)), None)
    elsewhere = SingleDeviceSharding(devices[0]) if mesh is None else NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        aval = jax.typeof(leaf)
        sharding = leaf.sharding if _is_there(leaf, there) else elsewhere
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding, weak_type=getattr(aval, "weak_type", False))

    return jax.tree.map(place, tree)


def _is_there(leaf: Any, devices: set[Any]) -> bool:
    """Whether a leaf is placed on these devices."""
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, Sharding):
        return False
    # A type may name axes of a mesh of no devices in particular.
    if isinstance(sharding, NamedSharding) and not isinstance(sharding.mesh, Mesh):
        return False
    return {*sharding.device_set} <= devices
