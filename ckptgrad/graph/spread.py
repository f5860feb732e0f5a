# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How an operation is spread over several devices: what each receives from the others, and its share of the work.

Inside a `shard_map` collectives say it themselves.  Elsewhere it follows from how operands and results lie over a mesh: what
is cut along an axis of the mesh that another value needs differently is gathered, and sums over what is cut are reduced.
Bytes are those of rings: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH
(2005), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jax.extend.core import Jaxpr
from jax.sharding import NamedSharding, PartitionSpec

from ckptgrad.graph.atoms import Atom, Variable, aval_bytes, device_bytes
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.work import inner_programs

# A mesh as the sizes of its axes, in order.
Sizes: TypeAlias = Mapping[str, int]
# For each axis of an array the axes of the mesh that cut it.
Cuts: TypeAlias = Sequence[frozenset[str]]


@dataclass(frozen=True)
class Transfer:
    """What each device of a ring receives.

    Attributes:
        received: bytes.
        span: of the numbers of the devices, from the first to the last of the ring.
    """

    received: float
    span: int


def gathered(held: float, axes: Iterable[str], sizes: Sizes) -> Transfer:
    """A gather of parts of so many bytes from the devices along axes of a mesh."""
    n, span = _ring(axes, sizes)
    return Transfer(held * (n - 1), span)


def reduced(held: float, axes: Iterable[str], sizes: Sizes) -> Transfer:
    """A sum over the devices along axes of a mesh, each with so many bytes, that all of them get."""
    n, span = _ring(axes, sizes)
    return Transfer(2 * held * (n - 1) / n, span)


def exchanged(held: float, axes: Iterable[str], sizes: Sizes) -> Transfer:
    """So many bytes of each device that are dealt out to all devices along axes of a mesh, or summed in parts."""
    n, span = _ring(axes, sizes)
    return Transfer(held * (n - 1) / n, span)


def passed(held: float, axes: Iterable[str], sizes: Sizes) -> Transfer:
    """So many bytes of each device that are passed on to another one."""
    n, span = _ring(axes, sizes)
    return Transfer(held if n > 1 else 0.0, span)


def _ring(axes: Iterable[str], sizes: Sizes) -> tuple[int, int]:
    """The number of devices along axes of a mesh, and the span of their numbers."""
    chosen, names = {*axes}, list(sizes)
    n = math.prod(sizes[name] for name in chosen if name in sizes)
    strides = {name: math.prod(sizes[other] for other in names[k + 1 :]) for k, name in enumerate(names)}
    return n, 1 + sum((sizes[name] - 1) * strides[name] for name in chosen if name in sizes)


# The transfer of one collective: by the bytes that a device holds of its operands, the axes, and the mesh.
Ring: TypeAlias = Callable[[float, Iterable[str], Sizes], Transfer]
_COLLECTIVES: dict[str, Ring] = {}


def state_ring(primitive: str, ring: Ring) -> None:
    """State what devices receive in a collective; the last statement holds."""
    _COLLECTIVES[primitive] = ring


def is_collective(op: Operation) -> bool:
    """Whether devices send each other something in a primitive, wherever its operands lie."""
    return op.name in _COLLECTIVES


def transfers(op: Operation) -> list[Transfer]:
    """What each device receives from others in an operation; nothing where all is on one device, or it is not known."""
    found = _laid_out(op)
    if found is not None:
        return found[0]
    return [] if _PROGRAMS.isdisjoint(op.params) else _of_programs(op.params, {})


# The parameters of primitives in which programs stand, so that others need not be searched.
_PROGRAMS = frozenset({"jaxpr", "call_jaxpr", "fun_jaxpr", "body_jaxpr", "cond_jaxpr", "branches", "jaxprs"})


def devices_sharing(op: Operation) -> int:
    """Over how many devices the work of an operation is divided.  Inside a `shard_map` work is counted for one device."""
    if op.name == "shard_map" or not _is_laid_out(op):
        return 1
    found = _laid_out(op)
    if found is not None:
        return found[1]
    cuts = [aval_bytes(a.aval) / (device_bytes(a) or 1) for a in (*op.inputs, *op.outputs) if a.sharding is not None]
    return max(1, round(max(cuts, default=1.0)))


def is_transfer(op: Operation) -> bool:
    """Whether an operation does nothing but bring values to other devices."""
    return op.name in MOVING and bool(transfers(op))


# The primitives that may do so.
MOVING = frozenset({"sharding_constraint", "reshard"})


def _of_programs(params: Mapping[str, Any], sizes: Sizes) -> list[Transfer]:
    mesh = params.get("mesh")
    if mesh is not None and "newly_manual_axes" in params:
        sizes = {**sizes, **dict(mesh.shape)}
    length = params.get("length", 1)
    return [Transfer(t.received * length, t.span) for program in inner_programs(params) for t in _of_program(program, sizes)]


def _of_program(program: Jaxpr, sizes: Sizes) -> list[Transfer]:
    found: list[Transfer] = []
    for e in program.eqns:
        ring = _COLLECTIVES.get(e.primitive.name)
        if ring is None:
            found += _of_programs(e.params, sizes)
        else:
            named = e.params.get("axes", e.params.get("axis_name", ()))
            axes = [a for a in (named if isinstance(named, tuple) else (named,)) if isinstance(a, str)]
            found.append(ring(sum(aval_bytes(a.aval) for a in e.invars), axes, sizes))
    return [t for t in found if t.received]


def _laid_out(op: Operation) -> tuple[list[Transfer], int] | None:
    """The transfers of an operation and the devices that share its work, by how its values lie; None: not told."""
    if not _is_laid_out(op):
        return None
    sizes: Sizes = next(dict(a.sharding.mesh.shape) for a in (*op.outputs, *op.inputs) if a.sharding is not None)
    if op.name in MOVING:
        found = _moved(op.inputs[0], op.outputs[0], sizes)
    elif op.name == "dot_general":
        return _product(op, sizes)
    elif op.name.startswith("reduce_") and "axes" in op.params:
        summed = {n for d in op.params["axes"] for n in _cuts(op.inputs[0])[d]} - _all(_cuts(op.outputs[0]))
        found = [reduced(device_bytes(op.outputs[0]), summed, sizes)] if summed else []
    else:
        return None
    return [t for t in found if t.received], _share([op.inputs[0], op.outputs[0]], (), sizes)


def _is_laid_out(op: Operation) -> bool:
    """Whether it is known how a value of an operation lies: of all or none, but for literals."""
    for v in op.outputs:
        return v.sharding is not None
    return False


def _moved(before: Atom, after: Atom, sizes: Sizes) -> list[Transfer]:
    """Bringing a value from one layout to another: a gather, or parts that are dealt out, or nothing."""
    missing = [b - a for b, a in zip(_cuts(before), _cuts(after), strict=True)]
    axes = {n for part in missing for n in part}
    if not axes:
        return []
    elsewhere = axes & _all(_cuts(after))
    whole = axes - elsewhere
    found = [exchanged(device_bytes(before), elsewhere, sizes)] if elsewhere else []
    return [*found, gathered(device_bytes(before), whole, sizes)] if whole else found


def _product(op: Operation, sizes: Sizes) -> tuple[list[Transfer], int]:
    result = op.outputs[0]
    gathers, sums = _of_product(op)
    found = [gathered(device_bytes(op.inputs[k]), axes, sizes) for k, axes in gathers.items()]
    if sums:
        inside = sums & _all(_cuts(result))
        found += [exchanged(device_bytes(result) * _count(inside, sizes), inside, sizes)] if inside else []
        found += [reduced(device_bytes(result), sums - inside, sizes)] if sums - inside else []
    return [t for t in found if t.received], _share([result], sums, sizes)


def _of_product(op: Operation) -> tuple[dict[int, frozenset[str]], frozenset[str]]:
    """For each operand of a product that is gathered the axes of the mesh along which it is, and the axes over which the
    product is summed."""
    (contracted, batch), (left, right), result = op.params["dimension_numbers"], op.inputs, op.outputs[0]
    cuts, out = [_cuts(left), _cuts(right)], _cuts(result)
    free = [[d for d in range(len(c)) if d not in (*contracted[k], *batch[k])] for k, c in enumerate(cuts)]
    # For each axis of an operand that the result has too, where.
    places = [dict(zip(batch[k], range(len(batch[k])), strict=True)) for k in (0, 1)]
    places[0].update(zip(free[0], range(len(batch[0]), len(batch[0]) + len(free[0])), strict=True))
    places[1].update(zip(free[1], range(len(batch[0]) + len(free[0]), len(out)), strict=True))
    found: dict[int, frozenset[str]] = {}
    sums: set[str] = set()
    for k in (0, 1):
        needless: set[str] = set()
        for d, axes in enumerate(cuts[k]):
            if d in places[k]:
                needless |= axes - out[places[k][d]]
                continue
            other = cuts[1 - k][contracted[1 - k][contracted[k].index(d)]]
            # What both are cut along, and what only one is and nothing else uses, is summed over devices.
            taken = _all(out) | (_all(cuts[1 - k]) - other)
            both = axes & other
            sums |= both | (axes - both - taken)
            needless |= (axes - both) & taken
        if needless:
            found[k] = frozenset(needless)
    return found, frozenset(sums)


def gathered_operands(op: Operation, shared: bool = False) -> dict[int, NamedSharding]:
    """For each operand of a product that devices gather before it how it lies then.

    With `shared` only those gathered along axes of the mesh that cut the result: each device then does its share only.
    """
    if op.name != "dot_general" or not _is_laid_out(op):
        return {}
    along = _all(_cuts(op.outputs[0]))
    gathers = _of_product(op)[0]
    return {k: _without(op.inputs[k], axes) for k, axes in gathers.items() if not shared or axes <= along}


def bytes_whole(op: Operation) -> int:
    """Bytes that a device holds while it works at a product beside what operands and result take as they lie: operands that
    it gathers, and all terms of a sum of which it gets a part."""
    if op.name != "dot_general" or not _is_laid_out(op):
        return 0
    gathers, sums = _of_product(op)
    found = 0
    for k, axes in gathers.items():
        found += device_bytes(Variable(op.inputs[k].aval, _without(op.inputs[k], axes)))
    (result,) = op.outputs
    inside = sums & _all(_cuts(result))
    if inside and result.sharding is not None:
        found += device_bytes(result) * _count(inside, dict(result.sharding.mesh.shape))
    return found


def _without(atom: Atom, axes: frozenset[str]) -> NamedSharding:
    """How a value lies once it is gathered along axes of its mesh."""
    assert atom.sharding is not None
    left = [tuple(n for n in (part if isinstance(part, tuple) else (part,)) if n not in axes) for part in atom.sharding.spec]
    return NamedSharding(atom.sharding.mesh, PartitionSpec(*(names or None for names in left)))


def _share(values: Iterable[Atom], also: Iterable[str], sizes: Sizes) -> int:
    """The number of devices along the axes that cut any of the values, and along others."""
    return _count({*also, *(n for v in values for n in _all(_cuts(v)))}, sizes)


def _count(axes: Iterable[str], sizes: Sizes) -> int:
    return math.prod(sizes.get(n, 1) for n in {*axes})


def _all(cuts: Cuts) -> frozenset[str]:
    return frozenset[str]().union(*cuts)


def _cuts(atom: Atom) -> Cuts:
    ndim = len(getattr(atom.aval, "shape", ()))
    spec = [] if atom.sharding is None else list(atom.sharding.spec)
    padded = [*spec, *[None] * ndim][:ndim]
    return [frozenset([part] if isinstance(part, str) else part or ()) for part in padded]
