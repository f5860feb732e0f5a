"""`certify`: what any function takes of a device's memory, and what takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer

from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.step_call import JitOptions, Names, Places, StepCall, step_call
from ckptgrad.execution.compiled_step import CompiledStep
from ckptgrad.graph.graph import aval_bytes
from ckptgrad.graph.naming import name_of
from ckptgrad.results.plan import Plan
from ckptgrad.results.step_certificate import StepCertificate, StepValue
from ckptgrad.target.allocated import Memory
from ckptgrad.target.hlo.workspaces import largest_workspace
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target


def certify(
    fun: Callable[..., Any],
    *args: Any,
    donate_argnums: Places = None,
    donate_argnames: Names = None,
    static_argnums: Places = None,
    static_argnames: Names = None,
    in_shardings: Any = None,
    out_shardings: Any = None,
    target: TargetChoice = None,
    **kwargs: Any,
) -> CompiledStep:
    """Compile a function, and read from XLA's buffer assignment what a device holds for it; nothing is run.

    Args:
        fun: any function, or one that is jitted already, which keeps its own donation and shardings.
        *args, **kwargs: its arguments; ShapeDtypeStructs are enough.
        donate_argnums, donate_argnames, static_argnums, static_argnames, in_shardings, out_shardings: as `jax.jit` takes
            them.
        target: what it is compiled for, as for `value_and_grad`.

    Returns:
        The compiled function: `print` it for the table of what takes the memory, argument by argument; `.peak_bytes` is
        everything, arguments included; call it to run it.

    Raises:
        OptionError: options that do not fit the arguments.
        MissingExtraError: the compiler of the target is not installed.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> step = cg.certify(lambda w, x: w + x, jnp.ones(256), jnp.ones(256), donate_argnums=0)
        >>> step.certificate.argument_bytes, step.peak_bytes
        (2048, 2048)
    """
    check_keywords(certify, fun, kwargs)
    options = JitOptions(donate_argnums, donate_argnames, static_argnums, static_argnames, in_shardings, out_shardings)
    return compile_whole(step_call(fun, args, kwargs, options), named_target(target))


def compile_whole(call: StepCall, target: Target) -> CompiledStep:
    """A step compiled as it is, without anything to plan."""
    lowered = target.lower(call.under(), *call.args, **call.kwargs)
    executable = target.compile(lowered)
    return certified(call, target, lowered, executable, target.allocated(executable))


def certified(
    call: StepCall,
    target: Target,
    lowered: Any,
    executable: Any,
    memory: Memory,
    plans: Sequence[Plan] = (),
    limit: int | None = None,
    rounds: int = 1,
) -> CompiledStep:
    """A compiled step with what its compiler says of it."""
    given = _shardings(lowered.args_info, executable.input_shardings)
    returned = _shardings(lowered.out_info, executable.output_shardings)
    infos: list[Any] = jax.tree.leaves(lowered.args_info)
    arguments = [
        StepValue(name, argument, _bytes(leaf, info, sharding), _kind(info), info.donated)
        for name, argument, leaf, info, sharding in zip(
            call.names, call.argument_names, jax.tree.leaves((call.args, call.kwargs)), infos, given, strict=True
        )
    ]
    out = jax.tree_util.tree_flatten_with_path(lowered.out_info)[0]
    results = [
        StepValue(f"results{jax.tree_util.keystr(path)}", str(k), _bytes(None, info, sharding), _kind(info))
        for k, ((path, info), sharding) in enumerate(zip(out, returned, strict=True))
    ]
    devices = max((len(s.device_set) for s in (*given, *returned) if s is not None), default=1)
    certificate = StepCertificate(
        name_of(call.fun),
        target,
        devices,
        memory,
        limit,
        tuple(arguments),
        tuple(results),
        tuple(plans),
        largest_workspace(executable.as_text()) if target.platform.compiled_seconds is not None else None,
    )
    return CompiledStep(executable, certificate, call.dynamic, rounds)


def _shardings(leaves: Any, shardings: Any) -> list[Any]:
    """One for each leaf; None for an argument that the program does not read, which is no leaf of its own."""
    return jax.tree.structure(leaves).flatten_up_to(shardings)


def _bytes(leaf: Any, info: Any, sharding: Any) -> int:
    """Bytes of a leaf on one device; one that the program does not read lies as it says itself."""
    sharding = getattr(leaf, "sharding", None) if sharding is None else sharding
    shape = info.shape if sharding is None else sharding.shard_shape(info.shape)
    return aval_bytes(jax.ShapeDtypeStruct(shape, info.dtype))


def _kind(info: Any) -> str:
    return f"{info.dtype}[{','.join(map(str, info.shape))}]"


def present_bytes(call: StepCall, target: Target) -> int:
    """Of the arguments, the bytes that lie on a device of the target already, on the one that holds most."""
    held: dict[Any, int] = {}
    for device, size in _shards(call, target):
        held[device] = held.get(device, 0) + size
    return max(held.values(), default=0)


def _shards(call: StepCall, target: Target) -> Iterator[tuple[Any, int]]:
    there: set[Any] = set()
    for leaf in jax.tree.leaves((call.args, call.kwargs)) if target.attached else ():
        # One array that is given twice is there once.
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and id(leaf) not in there:
            there.add(id(leaf))
            size = aval_bytes(jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype))
            yield from ((device, size) for device in leaf.sharding.addressable_devices)
