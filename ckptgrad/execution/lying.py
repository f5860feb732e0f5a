# pyright: reportUnknownMemberType=false
"""Where values lie over several devices, said to the partitioner: at the edges of stages, and of the whole program.

A plan counts how values lie as the partitioner says of each stage (`target.laid_out`).  Of a program in which stages are
isolated it would decide anew, and otherwise: what one stage sends, gathers and holds then differs from what was counted.
So what passes from one stage to another is constrained to lie as it is counted.  Gradients of arguments are not: whoever
uses them may want a part of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding

from ckptgrad.graph.atoms import Atom, is_in_host, parts_of


def lying(atoms: Sequence[Atom], values: Sequence[Any]) -> list[Any]:
    """Values, constrained to lie as the atoms that they are the values of."""
    return [x if a.loose else constrained(x, a.sharding) for a, x in zip(atoms, values, strict=True)]


def constrained(value: Any, sharding: NamedSharding | None) -> Any:
    """A value, constrained to lie as a sharding says; unless its type says it already, or its parts would be unlike."""
    if sharding is None or not isinstance(sharding.mesh, Mesh) or is_in_host(value.aval):
        return value
    if any(kind is not AxisType.Auto for kind in sharding.mesh.axis_types):
        return value
    if any(n % k for n, k in zip(value.shape, parts_of(sharding, value.ndim), strict=True)):
        return value
    return lax.with_sharding_constraint(value, sharding)
