"""The door `frontier`: the whole choice between bytes and time, before any budget is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ckptgrad.chain.opened import opened
from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.choosing import holds_enough, over_chunks
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.modules import open_modules
from ckptgrad.graph.naming import name_of
from ckptgrad.planner import make_plan
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.frontier import Point, points_of_all, points_within, policy_points
from ckptgrad.planning.nested import keep_most, write_nested
from ckptgrad.planning.policy import Policy, get_policy
from ckptgrad.request import Request
from ckptgrad.results.at_peak import Floor
from ckptgrad.results.frontier import Frontier
from ckptgrad.results.plan import Plan
from ckptgrad.target.named import TargetChoice

# Applied to each stage, as if its recomputation were isolated: estimates, like all points.
CHECKPOINT_POLICIES = ("dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable")


def frontier(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    policy: str | Policy = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    **kwargs: Any,
) -> Frontier:
    """Every budget at which the optimal plan of `value_and_grad(fun)` changes, with its estimated time.

    Args:
        fun, *args, **kwargs: the function and its arguments (arrays or ShapeDtypeStructs).
        policy: one whose plans at a few budgets stand among `others`, beside the optimal ones that the curve is made of.
        argnums, has_aux, saveable, costs, target, encodings, chunks: as for `value_and_grad`.

    Returns:
        A Frontier; `print` it, or read `points` and `at(budget)`.  Where `.compile` without a budget leaves stages open to
        each other, what that takes stands among `others`.  The points are found by one solve, not sampled:
        exactly for up to about a hundred different stages, with bytes rounded up beyond (`planning.frontier`).
        With `costs="auto"` all are estimates; a plan within a budget asks the compiler about stages that no estimate is sure
        of, and may take a little more: give some room, or name one source of costs for both.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> curve = cg.frontier(lambda x: jnp.sum(jnp.tanh(jnp.sin(x) @ x) @ x), jnp.ones((8, 8)))
        >>> curve.smallest_peak_bytes <= curve.fastest_peak_bytes
        True
    """
    check_keywords(frontier, fun, kwargs)
    fun, args, kwargs = open_modules(fun, args, kwargs)
    request = Request(
        argnums,
        has_aux,
        allow_int=True,
        saveable=saveable,
        costs=costs,
        target=target,
        encodings=encodings,
        chunks=chunks,
    )
    rival = get_policy(policy)
    # A call that is planned for a budget may be cut in several ways.
    chains = GradientFunction(fun, replace(request, budget="min"), with_value=True).chains(*args, **kwargs)
    chunked = chains.chunked if holds_enough(chains.finest.program, request) else None
    ways = [*chains.whole, *([] if chunked is None else chunked())]
    plans = [over_chunks(make_plan(chain.program, request), ways[0].program) for chain in ways]
    plan = plans[0]
    others = policy_points(plan.costs)
    if policy != "optimal":
        others += points_within(policy if isinstance(policy, str) else name_of(policy), rival, plan.costs)
    if saveable is None:
        for name in CHECKPOINT_POLICIES:
            limited = replace(request, saveable=getattr(jax.checkpoint_policies, name))
            costs_of_policy = GradientFunction(fun, limited, with_value=True).plan(*args, **kwargs).costs
            others.append(keeping_most(f"jax.checkpoint, {name}", costs_of_policy))
    if plan.compiled_open and plan.opened_bytes is not None:
        seconds = opened(plan.program, plan.schedule.kept).seconds()
        others.append(Point(plan.opened_bytes, seconds, "no budget: .compile leaves stages open"))
    return Frontier(
        tuple(points_of_all([(p.costs, p.floor_seconds) for p in plans])),
        tuple(others),
        plan.costs,
        plan.program.target,
        plan.program.devices,
        plan.program.argument_bytes,
        partial(_floor, plans),
    )


def _floor(plans: Sequence[Plan]) -> Floor:
    """What holds the smallest peak of several ways to cut a call up."""
    return min((plan.floor for plan in plans), key=lambda floor: floor.bytes)


def keeping_most(name: str, costs: ChainCosts) -> Point:
    """Each stage runs once, and keeps all that its options know to keep."""
    writer = write_nested(costs, keep_most(costs))
    return Point(writer.peak, writer.time, name)
