"""The door `frontier`: the whole choice between bytes and time, before any budget is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.frontier import Point, frontier_points, policy_points
from ckptgrad.planning.nested import keep_most, write_nested
from ckptgrad.results.frontier import Frontier

# With each of the stages as what is checkpointed, if recomputation were kept apart: estimates, like all points.
CHECKPOINT_POLICIES = ("dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable")


def frontier(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    saveable: Callable[..., Any] | None = None,
    costs: str = "auto",
    **kwargs: Any,
) -> Frontier:
    """Every budget at which the optimal plan of `value_and_grad(fun)` changes, with its estimated time.

    Args:
        fun, *args, **kwargs: the function and its arguments (arrays or ShapeDtypeStructs).
        argnums, has_aux, saveable, costs: as for `value_and_grad`.

    Returns:
        A Frontier; `print` it, or read `points` and `at(budget)`.  The points are found by one solve, not sampled:
        exactly for up to about a hundred different stages, with bytes rounded up beyond (`planning.frontier`).

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> curve = cg.frontier(lambda x: jnp.sum(jnp.tanh(jnp.sin(x) @ x) @ x), jnp.ones((8, 8)))
        >>> curve.smallest_peak_bytes <= curve.fastest_peak_bytes
        True
    """
    options = {"argnums": argnums, "has_aux": has_aux, "allow_int": True, "costs": costs}
    plan = value_and_grad(fun, **options, saveable=saveable).plan(*args, **kwargs)
    others = policy_points(plan.costs)
    if saveable is None:
        for name in CHECKPOINT_POLICIES:
            limited = value_and_grad(fun, **options, saveable=getattr(jax.checkpoint_policies, name))
            others.append(keeping_most(f"jax.checkpoint, {name}", limited.plan(*args, **kwargs).costs))
    return Frontier(tuple(frontier_points(plan.costs)), tuple(others), plan.costs, plan.program.target)


def keeping_most(name: str, costs: ChainCosts) -> Point:
    """Each stage runs once, and keeps all that its options know to keep."""
    writer = write_nested(costs, keep_most(costs))
    return Point(writer.peak, writer.time, name)
