# pyright: reportUnknownMemberType=false
"""The types of values, beyond shape and dtype: how they lie on a mesh, and what that makes of their cotangents' types."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import jax
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, PartitionSpec

from ckptgrad.graph.atoms import Array, Aval

T = TypeVar("T")


def struct(aval: Aval) -> Any:
    """What `jax.make_jaxpr` takes for an abstract value."""
    if not hasattr(aval, "shape"):
        return cast(Any, lax.create_token())  # no struct stands for one
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False), **_varying(aval))


def _varying(aval: Aval) -> dict[str, Any]:
    """How the value is spread over a mesh, where its type says so."""
    kind = getattr(aval, "manual_axis_type", None)
    if kind:
        return {"manual_axis_type": kind, "sharding": aval.sharding}
    sharding = explicit_sharding(aval)
    return {"sharding": sharding} if sharding is not None else {}


def explicit_sharding(aval: Aval) -> Any:
    """The sharding that is part of the value's type, under a mesh with explicit axes; else None."""
    sharding = getattr(aval, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    return sharding if mesh is not None and AxisType.Explicit in mesh.axis_types else None


def is_manual(aval: Aval) -> bool:
    """Whether a value is one device's share, inside a `shard_map`."""
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    return mesh is not None and AxisType.Manual in mesh.axis_types


def manual_axes(aval: Aval, how: str) -> tuple[Any, ...]:
    """The axes of a mesh along which a value is "varying", "reduced" or "unreduced", inside a typed `shard_map`."""
    return tuple(sorted(getattr(getattr(aval, "manual_axis_type", None), how, ())))


def varying_axes(aval: Aval) -> tuple[Any, ...]:
    """The axes of a mesh along which a value varies, inside a typed `shard_map`."""
    return manual_axes(aval, "varying")


def behind_one_barrier(values: T) -> T:
    """A pytree of arrays behind one optimization barrier: none of them is there before all are made.

    One for those that vary along the same axes of a mesh: a barrier of mixed ones would make all vary along all.
    """
    leaves, treedef = cast(tuple[list[Any], Any], jax.tree.flatten(values))
    axes = [varying_axes(jax.typeof(x)) for x in leaves]
    for kind in dict.fromkeys(axes):
        places = [i for i, a in enumerate(axes) if a == kind]
        passed = lax.optimization_barrier([leaves[i] for i in places])
        for i, x in zip(places, passed, strict=True):
            leaves[i] = x
    return jax.tree.unflatten(treedef, leaves)


def cotangent_type(aval: Aval) -> Aval:
    """The abstract value of a cotangent: unreduced where the value is reduced over an axis, and the other way round."""
    sums = any(manual_axes(aval, how) or getattr(_spec(aval), how, None) for how in ("reduced", "unreduced"))
    return aval.to_ct_aval() if sums else aval


def _spec(aval: Aval) -> Any:
    return getattr(getattr(aval, "sharding", None), "spec", None)


def partitions(spec: Any) -> tuple[Any, ...]:
    """The mesh axes of each array axis, for a specification that may also name axes over which values are reduced."""
    return tuple(getattr(spec, "partitions", spec))


def cotangent_spec(spec: Any) -> Any:
    """The specification of a cotangent: what is reduced over a mesh axis has unreduced ones, and the other way round."""
    reduced, unreduced = (frozenset(getattr(spec, how, None) or ()) for how in ("reduced", "unreduced"))
    return PartitionSpec(*partitions(spec), reduced=unreduced, unreduced=reduced) if reduced or unreduced else spec


def cotangent_struct(aval: Aval) -> jax.ShapeDtypeStruct:
    """The struct of a cotangent: strongly typed."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, **_varying(cotangent_type(aval)))


def filled(aval: Aval, number: float = 0) -> Array:
    """An array of one number, of the type of an abstract value: sharded and varying as that is."""
    sharding = explicit_sharding(aval)
    value: Array = lax.full(aval.shape, number, aval.dtype, sharding=sharding)
    if isinstance(value, Tracer) and sharding is not None and explicit_sharding(jax.typeof(value)) is None:
        # In a trace 0.12 drops a sharding whose mesh is not the one at work.
        with jax.sharding.use_abstract_mesh(sharding.mesh):
            value = lax.full(aval.shape, number, aval.dtype, sharding=sharding)
    unreduced = manual_axes(aval, "unreduced")
    # Only what varies can become unreduced.
    for axes, kind in (
        ((*varying_axes(aval), *unreduced), "varying"),
        (unreduced, "unreduced"),
        (manual_axes(aval, "reduced"), "reduced"),
    ):
        value = _cast_to(value, axes, kind)
    return value


def as_cotangent(value: Array, aval: Aval) -> Array:
    """A cotangent of the type that its value asks for: one that varies over more axes was broadcast, and is summed."""
    has, needed = set(varying_axes(jax.typeof(value))), set(varying_axes(cotangent_type(aval)))
    if has == needed:
        return value
    value = cast(Array, lax.psum(value, tuple(sorted(has - needed)))) if has - needed else value
    return _cast_to(value, tuple(sorted(needed - has)), "varying")


def _cast_to(value: Array, axes: tuple[Any, ...], kind: Any) -> Array:
    return cast(Array, lax.pcast(value, axes, to=kind)) if axes else value
