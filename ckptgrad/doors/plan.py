"""The door `plan`: what would be stored and recomputed, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.modules import open_modules
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.target.named import TargetChoice


def plan(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    microbatches: int | str | None = None,
    **kwargs: Any,
) -> Plan:
    """What `value_and_grad(fun, ...)` would store and recompute for these arguments.

    Args:
        fun, *args, **kwargs: the function and its arguments (arrays or ShapeDtypeStructs). Of Equinox modules the arrays are
            differentiated; calls with Flax NNX modules that change are made pure by `ckptgrad.nnx.pure`.
        argnums, has_aux, budget, policy, saveable, costs, target, encodings, chunks, microbatches: as
            for `value_and_grad`.

    Returns:
        A Plan; `print` it, or read `peak_bytes`, `choices`, `to_dict()`.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(4)).peak_bytes >= 20
        True
    """
    check_keywords(plan, fun, kwargs)
    fun, args, kwargs = open_modules(fun, args, kwargs)
    request = Request(
        argnums,
        has_aux,
        allow_int=True,
        budget=budget,
        policy=policy,
        saveable=saveable,
        costs=costs,
        target=target,
        encodings=encodings,
        chunks=chunks,
        microbatches=microbatches,
    )
    door = GradientFunction(fun, request, with_value=True)
    return door.plan(*args, **kwargs)
