# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Values that a probe makes and reads, so that a compiler counts them as temporaries of the probe.

They must be neither arguments nor results of the compiled program, and no work on them may be moved across the stage that
is probed.  How a compiler is told so depends on the platform:

- `Isolation.CALLS`: callbacks to Python make and read them; they are compiled and never run.
- others: each is filled with a number that the program is given, and all pass one optimization barrier.  These platforms
  keep barriers, and a compiler for devices that are not here compiles no callback.

On several devices each makes and reads its own part, under `jax.shard_map`: the partitioner would gather what a callback
reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ckptgrad.graph.atoms import parts_of
from ckptgrad.graph.random_keys import from_numbers, is_key, numbers_struct
from ckptgrad.target.partitioner import mesh_of
from ckptgrad.target.platform import Isolation

# The scope that their operations stand in: what these take is not the stage's.
SCOPE = "probe_values"


def is_plain(aval: Any) -> bool:
    """Whether it can be made and read: an array of numbers, or of keys as the numbers that they are made of.

    On several devices all their parts must be alike.
    """
    sharding = getattr(aval, "sharding", None)
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        parts = parts_of(sharding, aval.ndim)
        if is_key(aval) or any(n % k for n, k in zip(aval.shape, parts, strict=True)):
            return False
    return aval.size > 0 and (is_key(aval) or not _is_opaque(aval.dtype))


def fillings(structs: Sequence[Any], isolation: Isolation) -> list[Any]:
    """The types of the further arguments of a program that makes values of these types."""
    if isolation is Isolation.CALLS:
        return []
    mesh = mesh_of(s.sharding for s in structs)
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    dtypes = ((numbers_struct(s) if is_key(s) else s).dtype for s in structs)
    return [jax.ShapeDtypeStruct((), dtype, sharding=sharding) for dtype in dtypes]


def produce(structs: Sequence[Any], numbers: Sequence[Any], isolation: Isolation) -> list[Any]:
    """Values of these types, from the arguments that `fillings` asked for."""
    if not structs:
        return []
    mesh = mesh_of(s.sharding for s in structs)
    plain = [numbers_struct(s) if is_key(s) else _part(s) for s in structs]

    def make(numbers: Sequence[Any]) -> list[Any]:
        if isolation is Isolation.CALLS:
            return jax.pure_callback(_never, plain)
        with jax.named_scope(SCOPE):
            return lax.optimization_barrier([jnp.full(s.shape, x, s.dtype) for s, x in zip(plain, numbers, strict=True)])

    if mesh is not None:
        specs = [_spec(s.sharding) for s in structs]
        make = jax.shard_map(make, mesh=mesh, in_specs=PartitionSpec(), out_specs=specs, check_vma=False)
    return [from_numbers(x, s) if is_key(s) else x for s, x in zip(structs, make(numbers), strict=True)]


def consume(values: Sequence[Any], shardings: Sequence[NamedSharding | None], isolation: Isolation) -> Any:
    """Read values, which lie over devices as their shardings say, after all of them are there."""
    pairs = [(v, s) for v, s in zip(values, shardings, strict=True) if is_plain(_laid_out(v, s))]
    plain = [jax.random.key_data(v) if is_key(v) else v for v, _ in pairs]
    if not plain:
        return ()

    def read(values: Sequence[Any]) -> Any:
        if isolation is Isolation.CALLS:
            return jax.pure_callback(_never, jax.ShapeDtypeStruct((), np.float32), *values)
        with jax.named_scope(SCOPE):
            return [lax.slice(v, (0,) * v.ndim, (1,) * v.ndim) for v in lax.optimization_barrier(values)]

    mesh = mesh_of(shardings)
    if mesh is not None:
        specs = [_spec(s) for _, s in pairs]
        read = jax.shard_map(read, mesh=mesh, in_specs=(specs,), out_specs=PartitionSpec(), check_vma=False)
    return read(plain)


def _laid_out(value: Any, sharding: NamedSharding | None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)


def _part(struct: Any) -> jax.ShapeDtypeStruct:
    """The struct of the part that one device has."""
    shape = struct.shape if struct.sharding is None else struct.sharding.shard_shape(struct.shape)
    return jax.ShapeDtypeStruct(shape, struct.dtype)


def _spec(sharding: NamedSharding | None) -> PartitionSpec:
    return PartitionSpec() if sharding is None else sharding.spec


def _is_opaque(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, dtypes.extended) or dtype == dtypes.float0


def _never(*_: Any) -> Any:
    raise AssertionError("a probe is compiled, never run")
