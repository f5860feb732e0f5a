# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How the partitioner lays the values of a program over devices, where types do not say it.

Under a mesh with automatic axes XLA's partitioner (Shardy) decides from the shardings of the arguments.  Here it is asked
beforehand: the program is lowered with all values of interest as results, and the pass of propagation alone is run on it.
Nothing is compiled, and what it decides depends on the program only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend.mlir import ir, passmanager
from jax.extend.mlir.dialects import sdy
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

_PROPAGATION = "builtin.module(sdy-propagation-pipeline)"
_SHARDING = "sdy.sharding"


def mesh_of(shardings: Iterable[Any]) -> Mesh | AbstractMesh | None:
    """The mesh that shardings name: of several devices rather than of one, of some that there are rather than abstract.

    An abstract mesh of one device says nothing.
    """
    meshes = [s.mesh for s in shardings if isinstance(s, NamedSharding) and names_devices(s)]
    return max(meshes, key=lambda mesh: (mesh.size > 1, isinstance(mesh, Mesh)), default=None)


def names_devices(sharding: NamedSharding) -> bool:
    """Whether a sharding says on which device values lie, or over how many."""
    return sharding.mesh.size > 1 or (isinstance(sharding.mesh, Mesh) and bool(sharding.mesh.axis_names))


def result_shardings(
    function: Callable[..., list[Any]], structs: Sequence[Any], mesh: Mesh | AbstractMesh
) -> list[NamedSharding]:
    """The shardings that the partitioner gives the results of a function.

    An axis that it cuts as no sharding of the mesh says, along a part of one of its axes, is `UNCONSTRAINED` in them.

    Args:
        function: from arrays to a list of arrays.
        structs: the types of its arguments, with their shardings.
        mesh: of these.
    """
    traced = jax.jit(function).trace(*structs)
    # What the partitioner decides does not depend on the platform.
    lowered = traced.lower() if isinstance(mesh, Mesh) else traced.lower(lowering_platforms=("cpu",))
    if not jax.config.jax_use_shardy_partitioner:  # type: ignore[attr-defined]
        return [s if isinstance(s, NamedSharding) else NamedSharding(mesh, PartitionSpec()) for s in _compiled(lowered)]
    module: Any = lowered.compiler_ir("stablehlo")
    with module.context:
        passmanager.PassManager.parse(_PROPAGATION).run(module.operation)
        main = next(op for op in module.body.operations if "main" in str(getattr(op, "sym_name", "")))
        results = [ir.DictAttr(attributes) for attributes in main.attributes["res_attrs"]]
        *_, returned = main.regions[0].blocks[0].operations
        pairs = zip(returned.operands, results, strict=True)
        return [NamedSharding(mesh, _spec(value, attributes, mesh)) for value, attributes in pairs]


def _compiled(lowered: jax.stages.Lowered) -> list[Any]:
    return list(lowered.compile().output_shardings)


def _spec(value: Any, attributes: Any, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """The specification that is stated where a result is made or, if it is not there, in its attributes.

    Of axes that are cut in parts the latter say nothing.
    """
    made = {} if isinstance(value.owner, ir.Block) else value.owner.attributes
    if _SHARDING in made:
        stated = sdy.TensorShardingPerValueAttr(made[_SHARDING]).shardings[ir.OpResult(value).result_number]
    elif _SHARDING in attributes:
        stated = attributes[_SHARDING]
    else:
        return PartitionSpec()
    return PartitionSpec(*(_axes(dimension, mesh) for dimension in sdy.TensorShardingAttr(stated).dimension_shardings))


def _axes(dimension: Any, mesh: Mesh | AbstractMesh) -> Any:
    """What a specification says of one axis of an array."""
    axes = [sdy.AxisRefAttr(axis) for axis in sdy.DimensionShardingAttr(dimension).axes]
    if not all(axis.name in mesh.shape and axis.sub_axis_info is None for axis in axes):
        return PartitionSpec.UNCONSTRAINED
    names = tuple(axis.name for axis in axes)
    return names[0] if len(names) == 1 else names or None
