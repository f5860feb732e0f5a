"""From a program and a budget to a Plan: what will be stored, what recomputed, at what cost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from ckptgrad.bytes import Budget, is_auto
from ckptgrad.chain.cutting import Ways
from ckptgrad.chain.kind import StageKind, stored_in_host
from ckptgrad.chain.program import Program
from ckptgrad.compat import is_ordered
from ckptgrad.costs.asked import AskedCosts
from ckptgrad.costs.compiled import count_probes
from ckptgrad.costs.source import MOST_PROBES, program_costs
from ckptgrad.errors import BudgetError, EffectError, OptionError, ScheduleError
from ckptgrad.execution.step_planner import step_planner
from ckptgrad.execution.tiers.measured import known_rates
from ckptgrad.execution.tiers.tier import Tier
from ckptgrad.graph.effects import DRAWS
from ckptgrad.graph.graph import Operation
from ckptgrad.planning.budget import budget_bytes, everything_peak, share_words
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.host_room import schedule_within_room
from ckptgrad.planning.makespan import Rates
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.referee import Simulation, simulate
from ckptgrad.planning.schedule import Action, Forward, Offload, Schedule
from ckptgrad.planning.transfers import Room, makespan_of, moving_bytes, tiered_schedule
from ckptgrad.request import Request
from ckptgrad.results.at_peak import Floor, floor_of
from ckptgrad.results.plan import Plan
from ckptgrad.target.processes import several_processes

# No compiler takes more than an estimate by this factor.
FAR_BELOW = 4
# Stages from which on the smallest schedule takes so many forwards, half their square, that it is not followed for an error.
LONG_CHAIN = 500
# Bytes of a whole program below which no budget is worth a compilation.
WORTH_ASKING = 2**18
# The budgets of the plans that the compiler is asked about, where it is not asked about every option. Without a budget
# stages are lean; within more than all that storing takes they are fast, and hold more.
ASKED_BUDGETS: tuple[Budget, ...] = (None, "4x", "0.75x", "0.5x", "0.35x", "min")
# How often these plans are made again once the compiler was asked about those before.
MOST_QUESTIONS = 3
# Where the smallest plan takes more than estimated by this share, other plans are asked about: those that were estimated to
# take so many times the least bytes.
UNSURE = 0.08
NEAR_LEAST = (1.05, 1.1, 1.2, 1.35, 1.5)
# Where every question takes long, another smallest plan is asked about if the first one takes more by this share: what one
# option of a stage takes beyond its estimate is taken to hold for the others, too.
FAR_OFF = 0.2
# The budgets of those plans where every question takes long, or stages may run over chunks and a call takes less time than
# to ask about them, at about so many seconds a question.
FEW_ASKED_BUDGETS: tuple[Budget, ...] = ("min",)
QUESTION_SECONDS = 0.3

# A schedule, what the referee says of it, and the budget in bytes.
_Decision: TypeAlias = tuple[Schedule, Simulation, int | None]


def make_plan(program: Program, request: Request, costs: ChainCosts | None = None, everything: int | None = None) -> Plan:
    """Plan a program.

    Args:
        program: the chain.
        request: what is asked for; of it the budget, the policy and the source of costs are used here.
        costs: the stage costs, if they are known already.
        everything: bytes when everything is stored, of which an error gives the least budget as a share; None: those of the
            program.

    Raises:
        BudgetError: the budget is below what the policy can reach; says what the smallest peak consists of.
        OptionError: one of several processes is to plan, while tracing, by what the others may see differently; or the
            budget is "fit", and no step is being fitted.
        ScheduleError: the policy returned something else than a schedule, or the schedule breaks a rule.
        EffectError: the schedule would have a side effect twice.
    """
    if costs is None and request.asks_to_fit:
        return step_planner().plan_of(Ways([program]), request)
    asks, decided = False, None
    if costs is None and program.target.attached and several_processes():
        _check_same_for_all(request)
    elif costs is None and _asks(program, request):
        (costs, decided), asks = _asked_within(program, request), True
    costs = costs or program_costs(program, request.costs)
    try:
        schedule, simulation, limit = decided or _decide(program, request, costs)
    except BudgetError as error:
        explained = error.on(program.devices, partial(_floor, program, request, costs, error, everything, asks))
        raise explained.taken_from(share_words(request.budget, costs)) from None
    check_effects(program, schedule)
    moving = moving_bytes(costs, schedule, simulation.peak, limit)
    makespan, rates = None, dict[str, Rates]()
    if any(isinstance(action, Offload) for action in schedule):
        _check_tiers(request, schedule)
        rooms = _rooms(program, request)
        makespan = makespan_of(costs, schedule, [room.rates for room in rooms], limit).seconds
        rates = {str(tier): room.rates for tier, room in zip(request.tiers, rooms, strict=True)}
    plan = Plan(program, costs, schedule, simulation, limit, makespan=makespan, moving_bytes=moving, tier_rates=rates)
    return replace(plan, budget_source=share_words(request.budget, costs), chunk_choice=request.chunk_choice)


def _floor(
    program: Program, request: Request, costs: ChainCosts, error: BudgetError, everything: int | None, asks: bool
) -> Floor | None:
    """What holds up the smallest peak that the request's policy reaches; None where it writes no schedule within that.

    Of a long chain, whose smallest schedule may have millions of actions, that of the optimal policy is not judged again.
    """
    schedule: Schedule | None = None
    if request.policy != "optimal" or len(program.stages) < LONG_CHAIN:
        try:
            schedule, _, _ = _decide(program, replace(request, budget=max(1, error.smallest)), costs)
        except (BudgetError, ScheduleError):
            return None
    floor = floor_of(program, costs, schedule, everything)
    asked = AskedCosts(program) if asks else None
    return replace(floor, is_guess=asked is not None and _is_worth_asking(asked) and _is_hopeless(asked, error.budget))


def _is_hopeless(asked: AskedCosts, budget: int) -> bool:
    """Whether a budget is below the smallest peak whatever the compiler says."""
    return budget < minimum_peak(asked.lowest)[0]


def _is_worth_asking(asked: AskedCosts) -> bool:
    return everything_peak(asked.costs) >= WORTH_ASKING


def _rooms(program: Program, request: Request) -> list[Room]:
    """The request's tiers as planning sees them, with their rates as far as they are known.

    Raises:
        NotAttachedError: the target is not here, so that nothing can be measured.
    """
    program.target.check_runs()
    device = program.target.devices[0]
    return [Room(tier.capacity, known_rates(tier, device)) for tier in request.tiers if isinstance(tier, Tier)]


def _check_tiers(request: Request, schedule: Schedule) -> None:
    """Refuse a given schedule that sends to a tier which is not given.

    Raises:
        ScheduleError: it does.
    """
    for index, action in enumerate(schedule):
        if isinstance(action, Offload) and not 0 <= action.tier < len(request.tiers):
            raise ScheduleError(
                f"there is no tier {action.tier}; give runtime='staged' and tiers=, which has {len(request.tiers)}",
                index,
                action,
            )


def _check_same_for_all(request: Request) -> None:
    """Refuse to plan, as one of several processes, by what others may see differently: here nobody tells them.

    Estimates follow from the program alone.

    Raises:
        OptionError: the budget is what is free, or costs are asked of a compiler or a clock.
    """
    free = is_auto(request.budget)
    if free or request.costs not in ("auto", "estimate"):
        option = "budget='auto'" if free else f"costs={request.costs!r}"
        raise OptionError(
            f"{option} may give each of the processes that jax.distributed joins another plan while they trace; use "
            f".compile, where they agree on one, or {'give a budget in bytes' if free else 'leave it out, for estimates'}"
        )


def _decide(program: Program, request: Request, costs: ChainCosts) -> _Decision:
    """The schedule of the request's policy, what the referee says of it, and the budget in bytes."""
    limit, policy = limit_bytes(program, request, costs), request.policy
    if isinstance(policy, Schedule):
        schedule = policy
    elif request.tiers and request.runtime != "compiled" and limit is not None:
        schedule = tiered_schedule(costs, limit, _rooms(program, request), get_policy(policy))
    elif (stored := _stored_in_host(program)) is not None:
        schedule = schedule_within_room(
            costs,
            stored,
            program.target.host_bytes,
            lambda fewer: get_policy(policy)(fewer, limit_bytes(program, request, fewer)),
            least=request.asks_for_least,
        )
        if request.asks_for_least:
            limit = simulate(schedule, costs).peak
    else:
        schedule = get_policy(policy)(costs, limit)
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"the policy {policy!r} returned a {type(schedule).__name__}, not a ckptgrad.Schedule")
    simulation = simulate(schedule, costs)
    if limit is not None and simulation.peak > limit:
        raise BudgetError(limit, simulation.peak, None, schedule.policy)
    return schedule, simulation, limit


def _stored_in_host(program: Program) -> list[list[int]] | None:
    """What the save options of each stage store in the host's memory; None where no two stages store anything there."""
    if not program.target.host_bytes:
        return None
    known = {kind: [stored_in_host(option) for option in kind.options] for kind in program.kinds}
    stored = [known[stage.kind] for stage in program.stages]
    return stored if sum(any(sizes) for sizes in stored) > 1 else None


def _asks(program: Program, request: Request) -> bool:
    """Whether a plan that is made while tracing asks the compiler about stages: there is a budget to keep, and a choice."""
    decides = request.budget is not None and request.given_stages is None
    return decides and request.costs == "auto" and program.target.asked_while_tracing


def costs_within(program: Program, request: Request) -> ChainCosts:
    """Estimated costs, corrected by the compiler about stages of the plans within the budget that they lead to.

    The compiler is asked only about stages whose estimate is unsure, and about none if the plan takes far less than the
    budget, or the whole program few bytes.  If no plan seems to be small enough, it is asked about every stage: first as the
    smallest plan runs them, then about all their options. Where it takes far more for that plan than estimated, it is asked
    about plans that are nearly as small by estimates: it may pack these as estimated.
    """
    return _asked_within(program, request)[0]


def _asked_within(program: Program, request: Request) -> tuple[ChainCosts, _Decision | None]:
    """As `costs_within`; and what is decided by these costs, where that was the last thing to do."""
    asked = AskedCosts(program)
    again = _is_worth_asking(asked)
    decided: tuple[ChainCosts, _Decision | None] = asked.costs, None
    while again:
        costs = asked.costs
        try:
            schedule, simulation, limit = decision = _decide(program, request, costs)
            decided = costs, decision
            far_below = limit is not None and FAR_BELOW * simulation.peak < limit
            again = not far_below and asked.ask(schedule, sure=False, most=MOST_PROBES, only_backwards=program.chunked)
            again = again or (request.asks_for_least and _ask_near_smallest(asked, program, request))
        except BudgetError as error:
            again = not _is_hopeless(asked, error.budget) and _ask_of_smallest(asked, program, request, error.smallest)
    return decided if decided[0] is asked.costs else (asked.costs, None)


def _ask_of_smallest(asked: AskedCosts, program: Program, request: Request, smallest: int) -> bool:
    """Ask about the stages of the smallest plan, unsure estimates first, and once all of them are known about every option.

    In the same order as for budget="min", so that the bytes of that plan are not refused as a budget. Of stages over chunks,
    whose options are many, about backwards alone, and not about every one.
    """
    with suppress(BudgetError):
        schedule, _, _ = _decide(program, replace(request, budget=max(1, smallest)), asked.costs)
        few = program.chunked
        if any(asked.ask(schedule, sure=sure, most=MOST_PROBES, only_backwards=few) for sure in (False, True)):
            return True
    if not program.chunked and asked.ask_everything(most=MOST_PROBES):
        return True
    return _ask_near_smallest(asked, program, request)


def _ask_near_smallest(asked: AskedCosts, program: Program, request: Request) -> bool:
    """Ask about plans that by estimates alone are nearly the smallest, where the smallest one was told to take far more.

    What one option takes beyond its estimate is taken to hold for the others of its stage, so that they are never the
    smallest until they are asked about.
    """
    least = minimum_peak(asked.estimated)[0]
    if len(program.stages) >= LONG_CHAIN or minimum_peak(asked.costs)[0] <= (1 + UNSURE) * least:
        return False
    actions: list[Action] = []
    for times in NEAR_LEAST:
        with suppress(BudgetError):
            actions += _decide(program, replace(request, budget=int(times * least)), asked.estimated)[0]
    return asked.ask(actions, sure=True, most=MOST_PROBES, only_backwards=True)


def costs_to_compile(program: Program, request: Request) -> ChainCosts:
    """The costs by which a program is planned that is going to be compiled.

    Those of every option, or, where that takes too long (`_asks_about_few`), of those that some plans choose. Which these
    are does not depend on the budget: plans by different costs cannot be compared, and a larger budget must not give a
    slower one. Where every question takes long, or stages may run over chunks, about the backwards of the smallest plan
    alone: these set its peak, each of them does its stage's forward again, and how far off they are is taken to hold for the
    stage's other programs; if they are far off (`FAR_OFF`), about those of the plan that is the smallest then. Where chunks
    are asked about in less time than one call takes, about those of further plans, and all of those over chunks: what a
    compiler holds in a loop grows with the chunk. For the smallest plan, of stages with loops or very many programs those
    that it runs.

    Raises:
        OptionError: nothing here compiles for the program's target.
    """
    if request.asks_for_least and _asks_within_budget(program, request):
        return costs_within(program, request)
    if not _asks_about_few(program, request):
        return program_costs(program, request.costs, compiling=True)
    program.target.check_compiles()
    platform = program.target.platform
    few = platform.slow_probes or program.chunked or not (platform.quick_probes or request.budget is None)
    asked = AskedCosts(program)
    many = not few or (platform.quick_probes and _is_slower_than_asking(program, asked.estimated))
    if request.budget is None:
        budgets: tuple[Budget, ...] = (None,)
    else:
        budgets = ASKED_BUDGETS if many else FEW_ASKED_BUDGETS
        if many and program.chunked:
            asked.ask_over_chunks(most=MOST_PROBES)
    for _ in range(MOST_QUESTIONS):
        actions: list[Action] = []
        least = minimum_peak(asked.costs)[0] if platform.slow_probes else None
        for budget in budgets:
            # A schedule that is given may be one of other stages.
            with suppress(BudgetError, ScheduleError):
                actions += _decide(program, replace(request, budget=budget), asked.costs)[0]
        if not asked.ask(actions, sure=True, most=MOST_PROBES, only_backwards=few):
            break
        if few and (least is None or minimum_peak(asked.costs)[0] <= (1 + FAR_OFF) * least):
            break
    return asked.costs


def _is_slower_than_asking(program: Program, costs: ChainCosts) -> bool:
    """Whether a call is estimated to take longer than to ask the compiler about the backward of every option."""
    call = sum(stage.options[stage.fastest].time for stage in costs.stages)
    return QUESTION_SECONDS * sum(len(kind.options) for kind in program.kinds) < call


def costs_before_refusing(program: Program, request: Request, budget: int | None) -> ChainCosts | None:
    """Other costs, by which a budget may be kept that is not by those of `costs_to_compile`; None where there are none.

    Of stages with loops or very many programs those of plans within the budget, else those of every option.
    """
    if _asks_within_budget(program, request):
        return costs_within(program, replace(request, budget=budget))
    return program_costs(program, "compile") if _asks_about_few(program, request) else None


def _asks_within_budget(program: Program, request: Request) -> bool:
    """Whether the compiler is asked only once it is known which plans matter, as there are very many programs.

    A stage with a loop has one for each way to reverse it and number of checkpoints.
    """
    has_many = count_probes(program) > MOST_PROBES and not program.chunked
    has_many = has_many or any(kind.has_loops for kind in program.kinds)
    return request.costs == "auto" and has_many


def _asks_about_few(program: Program, request: Request) -> bool:
    """Whether the compiler is asked about some options only: where a stage takes it a while, or stages may run over chunks
    or have loops, in very many ways, and `costs="auto"`. Of loops on one device estimates are enough; on several it is the
    partitioner that decides what is held in a step.

    What is not asked about is taken to exceed its estimate by as much as what was, so that a smaller plan may be missed.
    """
    platform = program.target.platform
    takes_a_while = platform.slow_probes or (request.budget is None and not platform.quick_probes)
    spread_loops = program.devices > 1 and any(kind.has_loops for kind in program.kinds)
    in_many_ways = program.chunked or spread_loops
    return request.costs == "auto" and (in_many_ways or (takes_a_while and count_probes(program) <= MOST_PROBES))


def limit_bytes(program: Program, request: Request, costs: ChainCosts) -> int | None:
    """The budget of a request in bytes, for a program of these costs; None for no budget."""
    target = program.target
    return budget_bytes(request.budget, costs, lambda: target.free_bytes(target.total_bytes(program.graph.inputs)))


def check_effects(program: Program, schedule: Schedule) -> None:
    """Refuse a schedule that would have a side effect twice: an ordered one, or one whose result is read.

    Raises:
        EffectError: naming the user's line.
    """
    seen: set[int] = set()
    judged: set[tuple[StageKind, int | None]] = set()
    for action in schedule:
        if not isinstance(action, Forward):
            continue
        kind = program.stages[action.stage].kind
        if action.stage in seen and (kind, action.keep) not in judged:
            judged.add((kind, action.keep))
            for op in kind.graph.operations:
                if any(is_ordered(effect) for effect in op.effects):
                    raise _effect_error(action.stage, op, "an ordered side effect", "make it unordered")
            part = kind.plain if action.keep is None else kind.options[action.keep].partition
            for again in part.forward_again:
                if again.effects:
                    # The joint graph does not know the user's lines.
                    op = next((op for op in kind.graph.operations if op.name == again.name and op.effects), again)
                    raise _effect_error(action.stage, op, *_read_effect(again))
        seen.add(action.stage)


def _read_effect(op: Operation) -> tuple[str, str]:
    """What an operation whose results are read must not do twice, and what to use instead."""
    if DRAWS in op.effects:
        return "random numbers of lax.rng_uniform, which has a state", "use jax.random"
    return "a side effect whose result is read", "use jax.pure_callback"


def _effect_error(stage: int, op: Operation, what: str, instead: str) -> EffectError:
    return EffectError(
        f"stage {stage} has {what} ({op.name} at {op.source}) and the plan runs it again; raise the budget, "
        f"{instead}, move it out of the recomputed part, or use policy='store_all'"
    )
