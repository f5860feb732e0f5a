"""Whether a part of a program can run by itself, or needs the other devices of a mesh or the named axis of a map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Sharding

from ckptgrad.graph.graph import Operation

# The parameters in which communication names its axes.
_AXES = ("axis_name", "axes")


def stands_alone(operations: Iterable[Operation]) -> bool:
    """Whether the operations can be compiled by themselves, for one device."""
    return not any(_needs_others(op.params) or _any_spread((*op.inputs, *op.outputs)) for op in operations)


def _needs_others(params: dict[str, Any]) -> bool:
    named = (n for key in _AXES for n in _flat(params.get(key, ())))
    return any(not isinstance(n, int) and n is not None for n in named) or any(_is_spread(v) for v in params.values())


def _flat(value: Any) -> tuple[Any, ...]:
    return tuple(cast(Iterable[Any], value)) if isinstance(value, (tuple, list, frozenset)) else (value,)


def _is_spread(value: Any) -> bool:
    """Whether a parameter is, or holds, something that is laid out over several devices."""
    if isinstance(value, ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, Jaxpr):
        inputs = (*value.constvars, *value.invars)
        return _any_spread(inputs) or any(_needs_others(e.params) or _any_spread(e.outvars) for e in value.eqns)
    if isinstance(value, (tuple, list)):
        return any(map(_is_spread, cast(Iterable[Any], value)))
    mesh = getattr(value, "mesh", None)
    if mesh is not None:
        return getattr(mesh, "size", 1) > 1
    return isinstance(value, Sharding) and value.num_devices > 1


def _any_spread(atoms: Iterable[Any]) -> bool:
    return any(_is_spread(getattr(a.aval, "sharding", None)) for a in atoms)
