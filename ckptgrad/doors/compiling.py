"""Compiling a gradient within its budget: by which costs it is planned, and what is built for each aim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from ckptgrad.chain.program import Program
from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.execution.certify import Certified, certify
from ckptgrad.graph.naming import title
from ckptgrad.planner import costs_before_refusing, costs_to_compile, limit_bytes, make_plan
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan


def compile_within(program: Program, request: Request, jitted: Callable[[Plan], Any], args: Any, kwargs: Any) -> Certified:
    """Compile the program of a plan that is certified to be within the request's budget.

    Where no plan fits, and the compiler was not asked about the plans near the budget, it is asked, and those are tried.

    Args:
        program: the chain.
        request: what is asked for.
        jitted: from a plan to the jitted function that runs it.
        args, kwargs: abstract arguments of that function.

    Raises:
        BudgetError: no plan is within the budget; carries the smallest feasible peak.
    """
    costs = costs_to_compile(program, request)
    # The smallest plan has no number of bytes to keep to.
    budget = None if request.asks_for_least else limit_bytes(program, request, costs)
    may_open = request.policy == "optimal" and not request.asks_for_least

    def certified(costs: ChainCosts) -> Certified:
        return certify(partial(_build, program, request, jitted, costs), args, kwargs, budget, may_open)

    try:
        return certified(costs)
    except BudgetError as error:
        others = costs_before_refusing(program, request, budget)
        if others is None or others == costs:
            raise error.on(program.devices) from None
        try:
            return certified(others)
        except BudgetError as again:
            raise min(error, again, key=lambda e: e.smallest).on(program.devices) from None


def first_within(attempts: Iterable[Callable[[], Certified]], *, least: bool) -> Certified:
    """What the first attempt compiles that does not exceed the budget; for the smallest plan (`least`), of all the smallest.

    Raises:
        BudgetError: all attempts do; of all, the one that names the fewest bytes.
    """
    found: list[Certified] = []
    errors: list[BudgetError] = []
    for attempt in attempts:
        try:
            found.append(attempt())
        except BudgetError as error:
            errors.append(error)
            continue
        if not least:
            break
    if not found:
        raise min(errors, key=lambda error: error.smallest)
    return min(found, key=lambda certified: certified.peak_bytes)


def check_planned(fun: Callable[..., Any], plan: Plan, program: Program) -> None:
    """Reject a program of which a plan knows other stages: what it does not know of would not be differentiated.

    Raises:
        ScheduleError: the function was another one when it was planned.
    """
    planned, stages = len(plan.costs), len(program.stages)
    if planned != stages:
        raise ScheduleError(
            f"{title(fun)} has {stages} stages, and had {planned} when it was planned: it changes from trace to trace; make "
            f"what it depends on an argument, or constant"
        )


def _build(
    program: Program,
    request: Request,
    jitted: Callable[[Plan], Any],
    costs: ChainCosts,
    limit: int | None,
    fenced: bool = True,
    policy: str | None = None,
) -> tuple[Plan, Any]:
    """The plan for an aim, and the jitted function that runs it; `policy` is another one than the request's."""
    within = replace(
        request,
        budget=request.budget if request.asks_for_least else limit,
        policy=request.policy if policy is None else policy,
    )
    plan = replace(make_plan(program, within, costs), fenced=fenced)
    return plan, jitted(plan)
