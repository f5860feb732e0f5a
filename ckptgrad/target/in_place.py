# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Which results of an operation are its operands' buffers: reshapes, and what a `shard_map` passes on as it is given it."""

from __future__ import annotations

from typing import Any

from jax.extend.core import Jaxpr, Literal

from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.graph.spread import MOVING, is_transfer
from ckptgrad.graph.traits import is_all_in_order
from ckptgrad.graph.value_types import partitions
from ckptgrad.target.target import Target

# What leaves all numbers of a device's share in their order, where the result has as many.
_PASSING = frozenset({"reshape", "squeeze", "broadcast_in_dim", "pvary"})


def in_place(op: Operation, target: Target) -> dict[Variable, Variable]:
    """The results that are buffers of operands, each with that operand.

    A reshape, where it is cut over devices as its operand is; what each device returns from a `shard_map` as it enters, or
    reshaped; what is told to lie where it lies. Nothing where a reshape is a copy (`Platform.reshapes_in_place`).
    """
    if op.name in MOVING and not is_transfer(op):
        (source,), (result,) = op.inputs, op.outputs
        if isinstance(source, Variable) and target.bytes_of(result) == target.bytes_of(source):
            return {result: source}
        return {}
    if not target.platform.reshapes_in_place:
        return {}
    if is_all_in_order(op) and isinstance(op.inputs[0], Variable) and _is_cut_alike(op):
        return {op.outputs[0]: op.inputs[0]}
    if op.name != "shard_map":
        return {}
    places = passed_on(op.params["jaxpr"])
    found = {v: op.inputs[k] for v, k in zip(op.outputs, places, strict=True) if k is not None}
    return {v: a for v, a in found.items() if isinstance(a, Variable) and target.bytes_of(v) == target.bytes_of(a)}


def _is_cut_alike(op: Operation) -> bool:
    specs = [() if a.sharding is None else partitions(a.sharding.spec) for a in (op.inputs[0], op.outputs[0])]
    (before, *others), (after, *more) = ((*spec, None) for spec in specs)
    return before == after and not any((*others, *more))


def passed_on(program: Jaxpr) -> list[int | None]:
    """For each result of a program the number of the argument that it is, perhaps reshaped; None for others."""
    place = {v: k for k, v in enumerate(program.invars)}
    makers = {v: e for e in program.eqns for v in e.outvars if e.primitive.name in _PASSING}

    def source(v: Any) -> int | None:
        while not isinstance(v, Literal) and v in makers:
            e: Any = makers[v]
            is_plain = e.params.get("dimensions") is None or e.primitive.name == "squeeze"
            shown = [a for a, b in zip(e.invars, e.outvars, strict=False) if b is v]
            if not is_plain or not shown or shown[0].aval.size != v.aval.size:
                return None
            (v,) = shown
        return None if isinstance(v, Literal) else place.get(v)

    return [source(v) for v in program.outvars]
