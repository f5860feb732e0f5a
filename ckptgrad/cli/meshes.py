"""`--mesh data=4,model=2`: a mesh over the devices of the target, which the user's functions are given by its name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding

from ckptgrad.errors import OptionError
from ckptgrad.target.attached import with_neighbours
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target

AnyMesh: TypeAlias = Mesh | AbstractMesh

_AXIS = re.compile(r"([A-Za-z_]\w*)=([1-9]\d*)")


def read_mesh(text: str | None, target: TargetChoice, *, compiles: bool = True) -> AnyMesh | None:
    """The mesh that is written so, over the first of the target's devices; its axes are automatic.

    Args:
        text: the names of the axes with their sizes, "data=4,model=2"; None for no mesh.
        target: what is compiled for; of what is attached, all devices of its kind.
        compiles: whether programs are going to be compiled for the mesh. Otherwise it may have more devices than are
            attached, of which nothing but their number is known then.

    Raises:
        OptionError: the text cannot be read, or there are too few devices.
    """
    if text is None:
        return None
    matched = [_AXIS.fullmatch(part.strip()) for part in text.split(",")]
    sizes = {m[1]: int(m[2]) for m in matched if m is not None}
    if len(sizes) != len(matched):
        raise OptionError(f"--mesh {text}: write each axis once, with its number of devices, as in data=4,model=2")
    names, shape = tuple(sizes), tuple(sizes.values())
    chosen = named_target(target)
    devices = with_neighbours(chosen) if chosen.attached else chosen
    if prod(shape) <= len(devices.devices):
        return devices.mesh(shape, names)
    if chosen.attached and not compiles:
        return AbstractMesh(shape, names, axis_types=(AxisType.Auto,) * len(names))
    more = "; XLA_FLAGS=--xla_force_host_platform_device_count={} makes the CPU as many" if chosen.attached else ""
    raise OptionError(
        f"--mesh {text} needs {prod(shape)} devices, and there are {len(devices.devices)} of {chosen.device_kind}; name a "
        f"target that has as many, as in --target h100:8 or v5e:4x2{more.format(prod(shape))}"
    )


def takes_mesh(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter named `mesh`."""
    try:
        return "mesh" in inspect.signature(function).parameters
    except ValueError:  # no signature to look into
        return False


def needs_mesh(function: Callable[..., Any]) -> bool:
    """Whether it has one without a default."""
    return takes_mesh(function) and inspect.signature(function).parameters["mesh"].default is inspect.Parameter.empty


def given_mesh(function: Callable[..., Any], mesh: AnyMesh | None) -> Callable[..., Any]:
    """The function with the mesh as its argument of that name, where it takes one and there is one."""
    return partial(function, mesh=mesh) if mesh is not None and takes_mesh(function) else function


def lies_on(args: Any, mesh: AnyMesh) -> bool:
    """Whether some leaves are laid out over several devices, and all of those on devices of this mesh."""
    shardings = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(args)]
    meshes = [s.mesh for s in shardings if isinstance(s, NamedSharding) and s.mesh.size > 1]
    return bool(meshes) and all(_is_within(other, mesh) for other in meshes)


def _is_within(other: AnyMesh, mesh: AnyMesh) -> bool:
    if isinstance(other, Mesh) and isinstance(mesh, Mesh):
        return {*other.devices.flat} <= {*mesh.devices.flat}
    # An abstract mesh has devices in number only.
    return not isinstance(other, Mesh) and other.size <= mesh.size
