"""Compiling a gradient within its budget: by which costs it is planned, and what is built for each aim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, TypeAlias

import jax

from ckptgrad.bytes import format_bytes, is_in_bytes, is_share
from ckptgrad.chain.cutting import Ways
from ckptgrad.chain.opened import open_is_faster
from ckptgrad.chain.program import Program
from ckptgrad.compat import VERSIONS
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.doors.choosing import NEAR_WORTH, beside, over_chunks, plan_by_estimates, prefers_chunks, worth_chunking
from ckptgrad.errors import BudgetError, ScheduleError, TierError
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.certify import certify_faster
from ckptgrad.graph.meshes import devices_named
from ckptgrad.graph.naming import name_of, title
from ckptgrad.planner import LONG_CHAIN, costs_before_refusing, costs_to_compile, limit_bytes, make_plan
from ckptgrad.planning.budget import everything_peak, share_words
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.results.at_peak import Floor
from ckptgrad.results.plan import Plan
from ckptgrad.target.processes import ALONE, Processes, processes_of, several_processes

# Why a cut has no plan: none is within the budget, or a given schedule is not one of its stages.
_Refusal: TypeAlias = BudgetError | ScheduleError


@dataclass(frozen=True)
class Cut:
    """One way to cut a call into stages: the chain, and from a plan of it to the function that runs it, to be lowered.

    `staged`: what it is lowered to runs stage by stage, so that no stage is ever open to another one.
    """

    program: Program
    jitted: Callable[[Plan], Any]
    staged: bool = False


def compile_within(cuts: Ways[Cut], request: Request, args: Any, kwargs: Any) -> Certified:
    """Compile the program of a plan that is certified to be within the request's budget.

    Where a call may be cut in several ways, each has its plan, and the fastest of these is taken, the first of equally fast
    ones; of the smallest plans the smallest. So what holds for each, that a larger budget never gives a slower plan, holds
    for all together, where the compiler takes no less than predicted. An open program is taken to be faster than the plans
    of other cuts. Where no plan fits, and the compiler was not asked about the plans near the budget, it is asked, and those
    are tried. Processes that share the program compile it together: all get the same plan, and the certificate is that of
    the fullest of them.

    Args:
        cuts: the ways to cut the call, the finest first: it is what fractions of "store all" refer to, and what is compiled
            without a budget. The one over chunks is tried where the others are not about as fast as without a budget.
        request: what is asked for.
        args, kwargs: abstract arguments of the jitted functions.

    Raises:
        BudgetError: no plan is within the budget; carries the smallest feasible peak.
        ProcessesError: processes that share the program ask for different things, or one of them cannot go on.
        TierError: stages together keep more in the host's memory than was given.
    """
    processes = _sharing(cuts.finest.program)
    certified: list[Certified] = []
    try:
        search = _Search(cuts, request, args, kwargs, processes)
        processes.each("a compiled gradient", lambda: certified.append(search.found()))
    except BudgetError as error:
        raise error.taken_from(request.budget_source or error.source) from None
    found = certified[0]
    _check_host(found)
    if found.plan.program.chunked and cuts.chunked is not None:
        programs = [cut.program for cut in (*cuts.whole, *cuts.chunked())]
        found = replace(found, plan=beside(found.plan, (), programs))
    return replace(found, budget_source=request.budget_source or found.budget_source)


def _check_host(certified: Certified) -> None:
    """Refuse what keeps more in the host's memory than was given: stages are planned each for all of it.

    Raises:
        TierError: it does.
    """
    given = certified.target.host_bytes
    if given and certified.host_bytes > given:
        raise TierError(
            f"the program keeps {format_bytes(certified.host_bytes)} in the host's memory, and tiers= gives "
            f"{format_bytes(given)}; give it more, or a larger budget"
        )


@dataclass(frozen=True)
class _Search:
    """The search for a plan of one call, cut in one of several ways."""

    cuts: Ways[Cut]
    request: Request
    args: Any
    kwargs: Any
    processes: Processes

    def found(self) -> Certified:
        """The best plan by the costs that plans are made from, or by others before a budget is refused."""
        request, finest, (first, *rest) = self.request, self.cuts.finest, self._in_order
        # A share of what storing all needs is one of what the compiler says of it.
        asked = not (request.asks_for_least or is_in_bytes(request.budget))
        costs = self._costs(first) if asked else None
        # The smallest plan has no number of bytes to keep to.
        budgets = [None] if request.asks_for_least else self._budgets(costs if first is finest else None)
        budget = None if None in budgets else min(b for b in budgets if b is not None)
        scale = self._scale(costs if first is finest else None) if is_share(request.budget) else None
        source = "" if scale is None else share_words(request.budget, scale)
        errors: list[_Refusal] = []
        best: Certified | None = None
        chunks_first = self._prefers_chunks(budget)
        if self.cuts.chunked is not None and chunks_first:
            best = self._over_chunks(None, self.cuts.chunked(), budget, errors)
            if best is not None and not self._compares_all:
                return replace(best, budget_source=source)
        costs = self._costs(first) if costs is None else costs
        best = self._better(best, first, costs, budget, errors)
        for cut in rest:
            if best is None or request.asks_for_least or self._may_be_better(best):
                best = self._priced(best, cut, budget, errors)
        # Of fenced plans those over chunks are the faster ones where chunks stay near.
        near = budget is not None and request.policy == "optimal" and finest.program.target.platform.near_memory
        plan = None if best is None or (near and best.plan.fenced) else best.plan
        within = request if request.asks_for_least else replace(request, budget=budget)
        if self.cuts.chunked is not None and not chunks_first and worth_chunking(plan, finest.program, within):
            best = self._over_chunks(best, self.cuts.chunked(), budget, errors)
        if best is None:
            others = self.processes.first(
                "other costs of stages", lambda: costs_before_refusing(finest.program, request, budget)
            )
            if others is not None and others != costs:
                best = self._better(None, finest, others, budget, errors)
        if best is None:
            refused = [error for error in errors if isinstance(error, BudgetError)]
            if not refused:
                raise errors[0]
            least = min(refused, key=lambda error: error.smallest)
            raise self._explained(least, costs if first is finest else None).taken_from(source) from None
        return replace(best, budget_source=source)

    def _explained(self, error: BudgetError, costs: ChainCosts | None) -> BudgetError:
        """An error with the least budget as a share of what the finest stages need, as budgets are given."""
        program = self.cuts.finest.program

        def floor() -> Floor | None:
            why = error.floor
            return why and replace(why, everything_bytes=everything_peak(self._scale(costs)))

        return error.on(program.devices, floor)

    def _prefers_chunks(self, budget: int | None) -> bool:
        """Whether the cut over chunks is tried first: there is one for a single process only."""
        request = self.request
        if self.cuts.chunked is None or not (request.asks_for_least or budget is not None):
            return False
        within = request if request.asks_for_least else replace(request, budget=budget)
        return prefers_chunks(self.cuts.map(_program_of), within)

    @property
    def _compares_all(self) -> bool:
        """Whether whole stages are tried beside those over chunks that seemed better by estimates.

        On GPUs: their compiler answers soon, and lays so much into the buffers of gradients that are not written yet that
        whole stages may fit where by estimates they take far too much.
        """
        platform = self.cuts.finest.program.target.platform
        return not self.request.asks_for_least and not platform.slow_probes and platform.compiled_seconds is not None

    @property
    def _blocks_first(self) -> bool:
        """Whether the coarsest stages are tried first, and finer ones only where these do not fit.

        Each way to cut has a compiler asked about other stages, and where that takes long the coarser ones are enough: they
        cost least time there.
        """
        return self.request.costs == "auto" and self.cuts.finest.program.target.platform.slow_probes

    @property
    def _in_order(self) -> list[Cut]:
        whole = [*self.cuts.whole]
        return whole[::-1] if self._blocks_first else whole

    def _may_be_better(self, best: Certified) -> bool:
        """Whether other stages may give a better plan than this: an open program is not compared with them, as to ask the
        compiler about these takes long."""
        return best.plan.fenced and not self._blocks_first

    def _costs(self, cut: Cut) -> ChainCosts:
        program, request = cut.program, self.request
        if self._is_open_anyway(cut):
            return estimated_costs(program)
        return self.processes.first(f"the costs of {_asked(program, request)}", lambda: costs_to_compile(program, request))

    def _is_open_anyway(self, cut: Cut) -> bool:
        """Whether the open program of a cut is what is compiled, so that to ask about its stages, which takes long, tells
        nothing: that is what is taken without a budget, unless it takes more than the device's memory."""
        request, program = self.request, cut.program
        by_default = request.budget is None and request.costs == "auto" and request.policy == "optimal"
        is_taken = by_default and cut is self._in_order[0] and not cut.staged
        return is_taken and program.target.platform.slow_probes and open_is_faster(program)

    def _budgets(self, costs: ChainCosts | None) -> list[int | None]:
        """The budget in bytes of each process: what is free may differ. Fractions are of what the finest stages need, by
        these costs, or by estimates where the compiler was not asked about them."""
        program, request, scale = self.cuts.finest.program, self.request, self._scale(costs)
        return self.processes.each("the bytes of a budget", lambda: limit_bytes(program, request, scale))

    def _priced(self, best: Certified | None, cut: Cut, budget: int | None, errors: list[_Refusal]) -> Certified | None:
        """As `_better`, by the costs of the cut."""
        return self._better(best, cut, self._costs(cut), budget, errors)

    def _over_chunks(
        self, best: Certified | None, cuts: Sequence[Cut], budget: int | None, errors: list[_Refusal]
    ) -> Certified | None:
        """What is better of the best so far and the plans over chunks; for the smallest plan one cut, by estimates."""
        if self.request.asks_for_least:
            cuts = [min(cuts, key=lambda cut: minimum_peak(estimated_costs(cut.program))[0])]
        elif self.cuts.finest.program.target.platform.slow_probes:
            cuts = sorted(cuts, key=lambda cut: self._estimated_seconds(cut.program, budget))
        for cut in cuts:
            if best is None or self._is_worth_asking(best, cut, budget):
                best = self._priced(best, cut, budget, errors)
        return best

    def _is_worth_asking(self, best: Certified, cut: Cut, budget: int | None) -> bool:
        """Whether a plan of another cut may be better than the best so far: where to ask about its stages takes long, it is
        not done unless that plan is faster by estimates alone (`NEAR_WORTH`)."""
        if self.request.asks_for_least or not cut.program.target.platform.slow_probes:
            return True
        return NEAR_WORTH * self._estimated_seconds(cut.program, budget) < self._estimated_seconds(best.plan.program, budget)

    def _estimated_seconds(self, program: Program, budget: int | None) -> float:
        plan = plan_by_estimates([program], replace(self.request, budget=budget))
        return inf if plan is None else plan.seconds

    def _scale(self, costs: ChainCosts | None) -> ChainCosts:
        return estimated_costs(self.cuts.finest.program) if costs is None else costs

    def _better(
        self, best: Certified | None, cut: Cut, costs: ChainCosts, budget: int | None, errors: list[_Refusal]
    ) -> Certified | None:
        """What is better of the best so far and the plan of one more cut, if that fits."""
        least = self.request.asks_for_least
        is_optimal = self.request.policy == "optimal"
        if best is not None and least and _is_larger(cut.program, costs, best):
            return best
        try:
            _refuse_at_once(cut.program, self.request, costs, budget)
            found = certify_faster(
                partial(_build, cut, self.request, costs, self.cuts.finest.program),
                self.args,
                self.kwargs,
                budget,
                inf if best is None or least else best.plan.seconds,
                may_open=is_optimal and cut is self._in_order[0] and not cut.staged,
                may_be_uniform=is_optimal and not least,
                least=least and is_optimal,
                processes=self.processes,
            )
        except BudgetError as error:
            errors.append(error)
            return best
        except ScheduleError as error:
            if self.request.given_stages is None:
                raise
            errors.append(error)  # A schedule is one of stages cut in one way, which is not told.
            return best
        if best is None or found is None:
            return found or best
        return min(best, found, key=lambda certified: certified.peak_bytes) if least else found


def _is_larger(program: Program, costs: ChainCosts, best: Certified) -> bool:
    """Whether the smallest plan of other stages is predicted to take more than the smallest one so far, both as it was
    predicted and as it is: where compiling takes long, it is not compiled then."""
    if not program.target.platform.slow_probes:
        return False
    return minimum_peak(costs)[0] >= max(best.peak_bytes, best.plan.peak_bytes)


def _refuse_at_once(program: Program, request: Request, costs: ChainCosts, budget: int | None) -> None:
    """Refuse, of a long chain, a budget below the bytes of the gradients, which every program returns.

    Its smallest plan, which would be compiled to learn what it takes, may run millions of forwards.

    Raises:
        BudgetError: the budget is below these; carries the smallest peak as it is predicted.
    """
    if budget is not None and len(program.stages) >= LONG_CHAIN and budget < program.gradient_bytes:
        make_plan(program, replace(request, budget=budget), costs)


def _program_of(cut: Cut) -> Program:
    return cut.program


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
    cut: Cut,
    request: Request,
    costs: ChainCosts,
    finest: Program,
    limit: int | None,
    fenced: bool = True,
    policy: str | None = None,
    called: bool = False,
) -> tuple[Plan, Any]:
    """The plan for an aim, and the jitted function that runs it; options as for `execution.trials.Build`."""
    within = replace(
        request,
        budget=request.budget if request.asks_for_least and limit is None else limit,
        policy=request.policy if policy is None else policy,
    )
    asked = request.costs != "estimate"
    plan = over_chunks(replace(make_plan(cut.program, within, costs), fenced=fenced, called=called), finest, asked)
    return plan, cut.jitted(plan)
