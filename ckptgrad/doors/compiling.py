"""Compiling a gradient within its budget: by which costs it is planned, and what is built for each aim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ckptgrad.chain.program import Program
from ckptgrad.compat import VERSIONS
from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.execution.certify import Certified, certify
from ckptgrad.graph.meshes import devices_named
from ckptgrad.graph.naming import name_of, title
from ckptgrad.planner import costs_before_refusing, costs_to_compile, limit_bytes, make_plan
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.target.processes import ALONE, Processes, processes_of, several_processes


def compile_within(program: Program, request: Request, jitted: Callable[[Plan], Any], args: Any, kwargs: Any) -> Certified:
    """Compile the program of a plan that is certified to be within the request's budget.

    Where no plan fits, and the compiler was not asked about the plans near the budget, it is asked, and those are tried.
    Processes that share the program compile it together: all get the same plan, and the certificate is that of the
    fullest of them.

    Args:
        program: the chain.
        request: what is asked for.
        jitted: from a plan to the jitted function that runs it.
        args, kwargs: abstract arguments of that function.

    Raises:
        BudgetError: no plan is within the budget; carries the smallest feasible peak.
        ProcessesError: processes that share the program ask for different things, or one of them cannot go on.
    """
    processes = _sharing(program)
    certified: list[Certified] = []

    def compile_here() -> None:
        search = partial(_certified, program, request, jitted, args, kwargs, processes)
        certified.append(_within(program, request, search, processes))

    processes.each("a compiled gradient", compile_here)
    return certified[0]


def _within(
    program: Program, request: Request, search: Callable[[ChainCosts, int | None], Certified], processes: Processes
) -> Certified:
    """What a search finds by the costs that a plan is made from, or by others before a budget is refused."""
    costs = processes.first(f"the costs of {_asked(program, request)}", lambda: costs_to_compile(program, request))
    # The smallest plan has no number of bytes to keep to.
    budgets = [None] if request.asks_for_least else _budgets(program, request, costs, processes)
    budget = None if None in budgets else min(b for b in budgets if b is not None)
    try:
        return search(costs, budget)
    except BudgetError as error:
        others = processes.first("other costs of stages", lambda: costs_before_refusing(program, request, budget))
        if others is None or others == costs:
            raise error.on(program.devices) from None
        try:
            return search(others, budget)
        except BudgetError as again:
            raise min(error, again, key=lambda e: e.smallest).on(program.devices) from None


def _budgets(program: Program, request: Request, costs: ChainCosts, processes: Processes) -> list[int | None]:
    """The budget in bytes of each process: what is free may differ."""
    return processes.each("the bytes of a budget", lambda: limit_bytes(program, request, costs))


def _certified(
    program: Program,
    request: Request,
    jitted: Callable[[Plan], Any],
    args: Any,
    kwargs: Any,
    processes: Processes,
    costs: ChainCosts,
    budget: int | None,
) -> Certified:
    may_open = request.policy == "optimal" and not request.asks_for_least
    return certify(partial(_build, program, request, jitted, costs), args, kwargs, budget, may_open, processes)


def _sharing(program: Program) -> Processes:
    """The processes that compile a program together: those of the devices that it names, or that surround the call."""
    if not program.target.attached or not several_processes():
        return ALONE
    around = jax.sharding.get_mesh()
    return processes_of({*devices_named(program.graph), *(() if around.empty else around.devices.flat)})


def _asked(program: Program, request: Request) -> str:
    """What is asked for, in words that are the same in each process that asks for it."""
    policy = request.policy
    named = policy if isinstance(policy, str) else type(policy).__name__ if isinstance(policy, Schedule) else name_of(policy)
    return (
        f"a gradient in {len(program.stages)} stages within budget={request.budget!r}, policy={named!r}, "
        f"costs={request.costs!r}, for {program.target} by JAX {VERSIONS[0]} and jaxlib {VERSIONS[1]}"
    )


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
