# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Arguments of a program for devices that are not here: their types, placed on these devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from ckptgrad.errors import OptionError


def placed(tree: Any, devices: Sequence[Any]) -> Any:
    """The types of the leaves of `tree`, each with a sharding on `devices`.

    Those that have one keep it, and what lies over several other devices lies alike over these (`on_devices`).  Others go
    along with them, whole on every device of the mesh, as JAX treats arrays that the user has not placed; without a mesh
    they are on the first device.

    Raises:
        OptionError: as from `on_devices`.
    """
    there = {*devices}
    leaves, structure = jax.tree.flatten(tree)
    own = [_own(x, devices, there) for x in leaves]
    shardings = [s for s in own if s is not None]
    mesh = next((s.mesh for s in shardings if isinstance(s, NamedSharding)), None)
    elsewhere = SingleDeviceSharding(devices[0]) if mesh is None else NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any, sharding: Sharding | None) -> jax.ShapeDtypeStruct:
        aval, weak = jax.typeof(leaf), getattr(jax.typeof(leaf), "weak_type", False)
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding or elsewhere, weak_type=weak)

    return jax.tree.unflatten(structure, map(place, leaves, own))


def on_devices(sharding: NamedSharding, devices: Sequence[Any]) -> NamedSharding:
    """The same sharding over as many of these devices, if it names others.

    So what lies over the devices of this machine, or over a mesh made for trying things out, is planned as it would there.

    Raises:
        OptionError: there are fewer devices than in its mesh.
    """
    mesh = sharding.mesh
    if not isinstance(mesh, Mesh) or {*mesh.devices.flat} <= {*devices}:
        return sharding
    if mesh.size > len(devices):
        raise OptionError(
            f"an argument lies over a mesh of {mesh.size} devices, {dict(mesh.shape)}, and the target has {len(devices)}: "
            f"name as many, as in target='h100:{mesh.size}', or shard it over a mesh of the target's (target.mesh)"
        )
    taken = np.array([*devices[: mesh.size]], dtype=object).reshape(mesh.devices.shape)
    there = Mesh(taken, mesh.axis_names, mesh.axis_types)
    return NamedSharding(there, sharding.spec, memory_kind=sharding.memory_kind)


def _own(leaf: Any, devices: Sequence[Any], there: set[Any]) -> Sharding | None:
    """The sharding that a leaf has on these devices, or has on others and may have on these; None for none."""
    sharding = getattr(leaf, "sharding", None)
    # A type may name axes of a mesh of no devices in particular.
    if not isinstance(sharding, Sharding) or (isinstance(sharding, NamedSharding) and not isinstance(sharding.mesh, Mesh)):
        return None
    if {*sharding.device_set} <= there:
        return sharding
    return on_devices(sharding, devices) if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1 else None
