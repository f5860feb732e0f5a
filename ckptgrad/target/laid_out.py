# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Where the values of a program lie on several devices: written on its variables, for all that counts bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.graph import Atom, Operation, Variable
from ckptgrad.graph.value_types import cotangent_struct, explicit_sharding, partitions, struct
from ckptgrad.target.partitioner import mesh_of, result_shardings


def lay_out(
    operations: Sequence[Operation],
    inputs: Sequence[Variable],
    known: Mapping[Variable, NamedSharding | None],
    apply: Callable[[Operation, Sequence[Any]], list[Any]] = apply,
) -> None:
    """Set the shardings of the values of a run of operations.

    Types are read where they state shardings, under a mesh with explicit axes; otherwise the partitioner is asked.  Where
    all is on one device nothing is done.

    Args:
        operations: in the order they run.
        inputs: what they read and do not make.
        known: the shardings that are known, of inputs and of results; an input without one is whole on each device.
        apply: runs one operation.
    """
    made = [v for op in operations for v in op.outputs if hasattr(v.aval, "shape")]
    mesh = mesh_of(known.values())
    if stated_by_types((*inputs, *made)):
        for v in (*inputs, *made):
            v.sharding = _stated(v, mesh)
        return
    if mesh is None:
        return
    for v in inputs:
        v.sharding = known.get(v) or whole(mesh)
    results = {v: s for v, s in known.items() if s is not None and v not in {*inputs}}

    def run(*values: Any) -> list[Any]:
        env = dict(zip(inputs, values, strict=True))
        for op in operations:
            for v, x in zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True):
                env[v] = lax.with_sharding_constraint(x, results[v]) if v in results else x
        return [env[v] for v in made]

    for v, sharding in zip(made, result_shardings(run, [laid_out_struct(v) for v in inputs], mesh), strict=True):
        spec = sharding.spec[: v.aval.ndim]
        v.loose = PartitionSpec.UNCONSTRAINED in spec
        v.sharding = NamedSharding(mesh, PartitionSpec(*(None if a is PartitionSpec.UNCONSTRAINED else a for a in spec)))
    _fill_where_read(operations)


def _fill_where_read(operations: Sequence[Operation]) -> None:
    """Cut what is filled with one number as what is made of it is: each device fills the part that it reads.

    The partitioner says that such a value is whole, as no operand tells it more.
    """
    filled = {op.outputs[0] for op in operations if op.name == "broadcast_in_dim" and not op.inputs[0].aval.shape}
    read_by: dict[Variable, set[NamedSharding | None]] = {}
    for op in operations:
        for v in filled.intersection(op.inputs):
            read_by.setdefault(v, set()).update(w.sharding for w in op.outputs if w.aval.shape == v.aval.shape)
    for v, shardings in read_by.items():
        if len(shardings) == 1:
            v.sharding = shardings.pop()


def stated_by_types(variables: Iterable[Variable]) -> bool:
    """Whether values state in their types how they lie over devices."""
    return any(explicit_sharding(v.aval) is not None for v in variables)


def laid_out_struct(v: Variable) -> Any:
    """The struct of a value, with its sharding."""
    return _placed(struct(v.aval), v.sharding)


def laid_out_cotangent(a: Atom) -> Any:
    """The struct of a cotangent, with the sharding of its value or, of a gradient, its own."""
    return _placed(cotangent_struct(a.aval), a.sharding)


def _placed(struct: Any, sharding: NamedSharding | None) -> Any:
    # What states its sharding in its type has it already, but on devices that are not named.
    stated = sharding is not None and AxisType.Explicit in sharding.mesh.axis_types
    if sharding is None or (stated and isinstance(sharding.mesh, AbstractMesh)):
        return struct
    return jax.ShapeDtypeStruct(struct.shape, struct.dtype, weak_type=struct.weak_type, sharding=sharding)


def whole(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of what each device of a mesh holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _stated(v: Variable, mesh: Mesh | AbstractMesh | None) -> NamedSharding | None:
    """What the type of a value states, on the devices of a mesh where that is known."""
    stated = explicit_sharding(v.aval)
    if stated is None:
        return None if mesh is None else whole(mesh)
    return NamedSharding(mesh or stated.mesh, PartitionSpec(*partitions(stated.spec)))
