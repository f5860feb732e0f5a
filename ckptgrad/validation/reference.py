"""The references that ckptgrad is checked against: `jax.value_and_grad`, plain and with `jax.checkpoint` per stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.doors.frontier import keeping_most
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.graph.evaluate import read
from ckptgrad.meters.meter import Reading, Subject
from ckptgrad.meters.xla import xla_meter
from ckptgrad.planning.frontier import Point
from ckptgrad.target.allocated import Memory
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target


def plain(fun: Callable, argnums: int | Sequence[int], has_aux: bool) -> Callable:
    """`jax.value_and_grad(fun)`; integer arguments get float0 gradients."""
    return jax.value_and_grad(fun, argnums, has_aux, allow_int=True)


def checkpointed(traced: TracedChain, argnums: int | Sequence[int]) -> Callable:
    """`jax.value_and_grad` of the traced function with `jax.checkpoint` around each of its stages."""
    program = traced.program
    stages = [(s, jax.checkpoint(s.kind.graph)) for s in program.stages]

    def staged(*args: Any, **kwargs: Any) -> Any:
        env = dict(program.graph.constants)
        env.update(zip(program.graph.inputs, jax.tree.leaves((args, kwargs)), strict=True))
        for stage, run in stages:
            env.update(zip(stage.outputs, run(*[env[v] for v in stage.inputs]), strict=True))
        output, aux = traced.restore([read(env, a) for a in program.graph.outputs])
        return (output, aux) if traced.has_aux else output

    return jax.value_and_grad(staged, argnums, traced.has_aux, allow_int=True)


def reference_memory(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    target: TargetChoice = None,
    **kwargs: Any,
) -> Memory:
    """The bytes that `jax.value_and_grad(fun)` allocates for these arguments on a target, by XLA's buffer assignment.

    Nothing is run; arguments may be ShapeDtypeStructs.

    Example:
        >>> import jax.numpy as jnp
        >>> reference_memory(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(1000)).output_bytes >= 4004
        True
    """
    compiler = named_target(target)
    return compiler.allocated(_compiled(compiler, fun, args, kwargs, argnums, has_aux))


def jax_grad_reading(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    target: TargetChoice = None,
    **kwargs: Any,
) -> Reading:
    """What `jax.value_and_grad(fun)` holds over its instructions, by XLA's buffer assignment, for `Timeline.beside`.

    Nothing is run; arguments may be ShapeDtypeStructs.

    Example:
        >>> import jax.numpy as jnp
        >>> jax_grad_reading(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(1000)).bytes >= 4004
        True
    """
    compiler = named_target(target)
    return xla_meter(Subject(_compiled(compiler, fun, args, kwargs, argnums, has_aux), compiler))


def _compiled(
    compiler: Target,
    fun: Callable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
) -> jax.stages.Compiled:
    split = value_and_grad(fun, argnums, has_aux).split(args, kwargs)
    return compiler.compile(compiler.lower(jax.jit(plain(split.fun, argnums, has_aux)), *split.args, **split.kwargs))


def jax_grad_point(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    target: TargetChoice = None,
    **kwargs: Any,
) -> Point:
    """`jax.grad` as a point beside a frontier: its peak by XLA's buffer assignment, its time estimated as for plans."""
    memory = reference_memory(fun, *args, argnums=argnums, has_aux=has_aux, target=target, **kwargs)
    program = value_and_grad(fun, argnums, has_aux, allow_int=True, target=target).trace(*args, **kwargs).program
    return Point(memory.peak_bytes, keeping_most("jax.grad", estimated_costs(program, keep_all=True)).seconds, "jax.grad")
