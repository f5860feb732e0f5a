"""Which of the ways to cut a call is planned: as it is by a budget, and where stages may run over chunks of an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from ckptgrad.chain.cutting import Ways
from ckptgrad.chain.program import Program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.source import program_costs
from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.execution.search import MERGED
from ckptgrad.execution.step_planner import completed, step_planner
from ckptgrad.graph.uncollected import uncollected
from ckptgrad.planner import limit_bytes, make_plan
from ckptgrad.planning.bound import least_seconds
from ckptgrad.planning.budget import everything_peak, share_words
from ckptgrad.planning.costs import ABOUT_AS_FAST
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan

# Stages that run over chunks are considered where the others take this much longer than without a budget.
CHUNKS_WORTH = 1.1
# Where chunks stay near, plans over them are looked at if by estimates others take this much longer.
NEAR_WORTH = 1.01


@uncollected()
def best_plan(ways: Ways[Program], request: Request) -> Plan:
    """The best plan of a call that may be cut in several ways: the fastest, the first of equally fast ones; of the smallest
    plans the smallest.

    Args:
        ways: to cut the call, the finest first: it is what fractions of "store all" refer to.
        request: as for `make_plan`.

    Raises:
        BudgetError: of all plans none is within the budget; names the fewest bytes.
        OptionError, ScheduleError, EffectError: as from `make_plan`.
    """
    if request.asks_to_fit:
        request = completed(request)
        worth = ways.chunked is not None and request.policy == "optimal" and holds_enough(ways.finest, request)
        return step_planner().plan_of(ways if worth else Ways(ways.whole), request)
    several = len(ways.whole) > 1 or (ways.chunked is not None and request.policy == "optimal")
    source, everything = request.budget_source, None
    if several and request.budget is not None and not request.asks_for_least:
        costs = program_costs(ways.finest, request.costs)
        source = source or share_words(request.budget, costs)
        request, everything = replace(request, budget=limit_bytes(ways.finest, request, costs)), everything_peak(costs)
    try:
        plan = _best(ways, request, everything)
    except BudgetError as error:
        raise error.taken_from(source or error.source) from None
    return replace(plan, budget_source=source) if source else plan


def _best(ways: Ways[Program], request: Request, everything: int | None) -> Plan:
    whole, errors = ways.whole, list[BudgetError]()
    chunks_first = ways.chunked is not None and prefers_chunks(ways, request)
    if ways.chunked is not None and chunks_first:
        chunked, refused = _chunked_plans(ways.chunked(), ways.finest, request, everything)
        if chunked:
            return beside(_chosen(chunked, request), chunked, whole)
        errors += refused
    plans: list[Plan] = []
    other: ScheduleError | None = None
    for program in whole:
        try:
            plans.append(make_plan(program, request, everything=everything))
        except BudgetError as error:
            errors.append(error)
        except ScheduleError as error:
            if ways.chunked is None:
                raise
            other = error  # A plan that was saved may be one over chunks.
    best = min(plans, key=_seconds, default=None)
    if ways.chunked is not None and not chunks_first and worth_chunking(best, ways.finest, request):
        try:
            chunked, refused = _chunked_plans(ways.chunked(), ways.finest, request, everything)
            errors += refused
            least = request.asks_for_least
            plans += [p for p in chunked if best is None or not least or is_smaller_by_far(p, best)]
        except ScheduleError as error:
            if not errors:
                raise other or error from None
    if not plans:
        raise min(errors, key=lambda error: error.smallest)
    return beside(_chosen(plans, request), plans, whole)


def _chunked_plans(
    chunked: Sequence[Program], finest: Program, request: Request, everything: int | None
) -> tuple[list[Plan], list[BudgetError]]:
    """The plans of the ways to cut a call into stages that may run over chunks, and what is said of those without one.

    Raises:
        ScheduleError: a given schedule is for none of them.
    """
    plans: list[Plan] = []
    errors: list[BudgetError] = []
    other: list[ScheduleError] = []
    for program in chunked:
        try:
            plans.append(over_chunks(make_plan(program, request, everything=everything), finest))
        except BudgetError as error:
            errors.append(error)
        except ScheduleError as error:
            other.append(error)
    if other and not plans and not errors:
        raise other[0]
    return plans, errors


def _chosen(plans: Sequence[Plan], request: Request) -> Plan:
    """The fastest plan, or the smallest where that is asked for; the first of equally good ones.

    Plans over chunks that are told to be equally slow (`over_chunks`) are told apart by their estimates.
    """
    return min(plans, key=_size_first if request.asks_for_least else _seconds_first)


def beside(plan: Plan, planned: Sequence[Plan], programs: Sequence[Program]) -> Plan:
    """A plan that knows what the other ways to cut the call cost: those that were planned, and the others by estimates.

    Args:
        plan: the one that is taken.
        planned: plans by other costs than estimates; `plan` may be among them.
        programs: the ways to cut the call, the finest first.
    """
    known = [plan.program, *(p.program for p in planned)]
    ways = [(p.costs, p.floor_seconds) for p in planned if p is not plan]
    for program in programs:
        if all(program is not other for other in known):
            ways.append((estimated_costs(program), chunked_seconds(programs[0]) if program.chunked else 0.0))
    return replace(plan, others=tuple(ways))


def _seconds(plan: Plan) -> float:
    return plan.seconds


def _seconds_first(plan: Plan) -> tuple[float, float]:
    return plan.seconds, plan.simulation.time


def _size_first(plan: Plan) -> tuple[int, float]:
    return plan.peak_bytes, plan.seconds


def worth_chunking(best: Plan | None, finest: Program, request: Request) -> bool:
    """Whether stages that run over chunks may give a better plan than the best one with stages that run whole.

    Args:
        best: that one; None where none is within the budget.
        finest: the call with stages that run whole.
        request: what is asked for.
    """
    if request.policy != "optimal":
        return best is None  # A plan that was saved may be one over chunks.
    slow = best is None or request.asks_for_least or _is_slow(best, request)
    return slow and holds_enough(finest, request)


def _is_slow(best: Plan, request: Request) -> bool:
    """Whether the best plan with stages that run whole is much slower than without a budget.

    Where chunks stay near, any plan is that is fenced, which costs more there than estimated: any within a budget in which
    an open program is not tried (`MERGED`).
    """
    if best.target.platform.near_memory and isinstance(request.budget, int):
        return best.fenced and everything_peak(best.costs) > MERGED * request.budget
    return best.seconds > CHUNKS_WORTH * least_seconds(best.costs, None)


def over_chunks(plan: Plan, finest: Program, asked: bool = False) -> Plan:
    """A plan of stages that may run over chunks; other plans stay as they are.

    It is taken to need at least the seconds from which on it is looked at, `CHUNKS_WORTH` times those of the fastest plan:
    no larger budget, for which stages run whole, then has a plan that is said to be slower. Where chunks stay near, the
    seconds are those that a plan without a budget may need; and what a compiler was asked about is believed, as open
    programs, for larger budgets, are told by it too.

    Args:
        plan: the plan.
        finest: the call with stages that run whole.
        asked: whether its seconds are those that a compiler states.
    """
    if not plan.program.chunked or (asked and plan.target.platform.near_memory):
        return plan
    return replace(plan, floor_seconds=chunked_seconds(finest))


def chunked_seconds(finest: Program) -> float:
    """The least seconds of a plan over chunks of a call whose finest stages are these."""
    worth = 1 + ABOUT_AS_FAST if finest.target.platform.near_memory else CHUNKS_WORTH
    return worth * least_seconds(estimated_costs(finest), None)


def holds_enough(finest: Program, request: Request) -> bool:
    """Whether some stage holds so much inside, by estimates, that to run it over chunks is worth trying."""
    return request.chunk_choice.is_worth(estimated_costs(finest).largest_transient)


def prefers_chunks(ways: Ways[Program], request: Request) -> bool:
    """Whether stages that run over chunks are planned first, and others only where these keep no budget.

    That is so where, by estimates alone, for which no compiler is asked, they are the better ones by far (`CHUNKS_WORTH`; a
    little, `NEAR_WORTH`, where they stay near): keep a budget that others do not, are faster within it, or hold less where
    the smallest plan is asked for.

    Args:
        ways: to cut the call.
        request: with a budget in bytes, or for the smallest plan.
    """
    if ways.chunked is None or request.policy != "optimal" or request.costs not in ("auto", "estimate"):
        return False
    if not holds_enough(ways.finest, request):
        return False
    best = plan_by_estimates(ways.whole, request)
    if not worth_chunking(best, ways.finest, request):
        return False
    chunked = plan_by_estimates(ways.chunked(), request)
    if best is None or chunked is None:
        return chunked is not None
    if request.asks_for_least:
        return is_smaller_by_far(chunked, best)
    worth = NEAR_WORTH if ways.finest.target.platform.near_memory else CHUNKS_WORTH
    return worth * chunked.seconds < best.seconds


def is_smaller_by_far(chunked: Plan, whole: Plan) -> bool:
    """Whether the smallest plan over chunks takes less than that of whole stages, even if it takes more than it is told to.

    Beside a loop over chunks compilers write fewer results over what they read, and may lay out a boundary more.
    """
    costs = chunked.costs
    boundary = max((costs.boundary_bytes(i) for i in range(len(costs) + 1)), default=0)
    return max(CHUNKS_WORTH * chunked.peak_bytes, chunked.peak_bytes + boundary) < whole.peak_bytes


def plan_by_estimates(programs: Iterable[Program], request: Request) -> Plan | None:
    """The best plan by estimates; None where none is within the budget."""
    plans: list[Plan] = []
    for program in programs:
        with suppress(BudgetError):
            plans.append(make_plan(program, request, estimated_costs(program)))
    return min(plans, key=_size_first if request.asks_for_least else _seconds, default=None)
