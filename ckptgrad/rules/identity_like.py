"""Operations that pass their input on: copies, names, placements, barriers.

A cotangent goes back to the placement and the precision that its input had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array, Aval
from ckptgrad.rules.decorators import linear


@linear(p.copy_p, cost="view", axes=axes.elementwise)
def copy(op: Application, g: Array) -> Sequence[Entry]:
    return (g,)


@linear(p.name_p, cost="view", axes=axes.elementwise)
def name(op: Application, g: Array) -> Sequence[Entry]:
    return (g,)


@linear(p.reduce_precision_p, cost="elementwise", axes=axes.elementwise)
def reduce_precision(op: Application, g: Array) -> Sequence[Entry]:
    bits = op.params["exponent_bits"], op.params["mantissa_bits"]
    return (lambda: lax.reduce_precision(g, *bits),)


@linear(p.sharding_constraint_p, cost="elementwise")
def sharding_constraint(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: jax.lax.with_sharding_constraint(g, op.params["sharding"]),)


@linear("reshard", cost="elementwise")
def reshard(op: Application, g: Array) -> Sequence[Entry]:
    """The engine gives every cotangent the sharding of its value."""
    return (g,)


@linear("layout_constraint", cost="elementwise")
def layout_constraint(op: Application, g: Array) -> Sequence[Entry]:
    return (g,)


@linear("xla_metadata_value", cost="view")
def xla_metadata_value(op: Application, g: Array) -> Sequence[Entry]:
    return (g,)


@linear("tie", cost="elementwise")
def tie(op: Application, g: Array) -> Sequence[Entry]:
    return None, g


@linear(p.device_put_p, cost="elementwise")
def device_put(op: Application, *gs: Array) -> Sequence[Entry]:
    def back(g: Array | None, source: Any, target: Any, aval: Aval) -> Array | None:
        if source is None and target is not None:
            source = aval.memory_space
        return g if g is None or source is None else jax.device_put(g, source)

    places = zip(gs, op.params["srcs"], op.params["devices"], op.in_avals, strict=True)
    return [lambda place=place: back(*place) for place in places]


@linear("optimization_barrier", cost="elementwise")
def optimization_barrier(op: Application, *gs: Array) -> Sequence[Entry]:
    """One barrier over the cotangents that exist."""
    present = [i for i, g in enumerate(gs) if g is not None]
    held = dict(zip(present, lax.optimization_barrier([gs[i] for i in present]), strict=True))
    return [held.get(i) for i in range(len(gs))]
