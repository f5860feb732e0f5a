"""The search for the plan of a budget: rungs of a ladder are compiled, up and down, until one fits."""

from __future__ import annotations

from functools import partial
from math import floor, inf, log
from typing import Any

from ckptgrad.chain.opened import open_is_faster
from ckptgrad.errors import BudgetError
from ckptgrad.execution.smallest import (
    FAR,
    FEW_BYTES,
    MERGED,
    called_instead,
    everything_of,
    least_of,
    opened_instead,
    smallest_near,
)
from ckptgrad.execution.trials import (
    AnyPlan,
    Build,
    KnownOnPaper,
    Planned,
    Trial,
    Trials,
    actions_of,
    target_of,
)
from ckptgrad.results.at_peak import Floor, floor_of
from ckptgrad.target.processes import ALONE, Processes

# Plans that are tried rung by rung; after these the aim is lowered by the whole excess.
MAX_ROUNDS = 8
# After so many the smallest plan is next: a search ends.
MOST_ROUNDS = 2 * MAX_ROUNDS
# Aims are powers of this; on the way up every STEP-th of them is tried.
RUNG = 1 + 1 / 256
STEP = 4
# The share of a budget that may be left unused. To use more of it, at most MOST_CLIMBED plans are compiled beyond the first,
# and at most MOST_STEPS steps looked at: up to twice the budget.
SLACK = 0.03
MOST_CLIMBED, MOST_STEPS = 6, 48
# A plan this near to the fastest one's time is fast enough.
WORTH = 1.01
# The seconds of plans whose stages the compiler was not asked about are up to this factor too low, where asking takes long:
# by 1 to 10 % for transformers, GELU layers and experts on a v5e.
UNASKED = 1.08
# A plan of which the compiler was asked about all stages is compiled first if by its costs it is slower by this at most.
NEARLY = 1.06
# Where compiling takes long, the climb goes on if a plan so many rungs further on is faster by this factor.
AHEAD, AHEAD_WORTH = 4 * STEP, 1.02
# A plan is tried if this share of its prediction, corrected by the last plan's error, is within the budget.
DIP = 0.95
# Where a plan is slower than estimated, a faster one is looked for within a half of the budget, and so on, so many times.
MOST_HALVED = 3


def _aim(rung: int) -> int:
    return max(1, int(RUNG**rung))


def fastest_within(
    build: Build[AnyPlan],
    args: Any,
    kwargs: Any,
    budget: int | None,
    than: float = inf,
    *,
    may_open: bool,
    may_be_uniform: bool,
    least: bool = False,
    apart: int = 1,
    processes: Processes = ALONE,
) -> tuple[Trial[AnyPlan], int] | None:
    """The search of `certify`, for whatever is compiled as one program: what it finds, compiled, and the compilations.

    Aims are the rungs of one ladder, whatever the budget. Every `STEP`-th rung is climbed from just above the budget (just
    below it where compiling takes long): while a plan leaves more than `SLACK` of the budget unused, the next one is tried.
    From where the climb ends, the plan is the first within the budget on the way down, rung by rung.

    A larger budget never gives a slower plan. Whether the climb goes on from a rung is decided by comparing the budget
    with numbers that do not depend on it, so a larger budget, which starts no lower, climbs at least to the same rung; of
    the rungs below that it may use every one that the smaller budget may. Only where a plan exceeds the budget by far
    (`FAR`), or after `MAX_ROUNDS` plans, the aim is lowered by the whole excess instead, which skips rungs.

    Of the rungs on the way down only every `apart`-th of the ladder is tried, where to compile is worth more than the bytes
    between them; every `STEP`-th where that takes long.

    Raises:
        BudgetError: as from `certify_faster`.
    """
    trials = Trials(build, args, kwargs, processes)
    while True:
        if least:
            trial = least_of(trials, may_open)
        elif budget is None:
            trial = _without_budget(trials, may_open)
        elif may_open:
            trial = _open_or_within(trials, budget, may_be_uniform, than, apart)
        else:
            trial = _within(trials, budget, may_be_uniform, than, apart)
        if trial is None or trial.seconds >= than:
            return None
        if budget is not None:
            trial = _faster_as_stated(trials, trial, budget)
        # The bytes of a certificate are those of its executable, whatever was remembered.
        if trials.confirmed(trial):
            return trial, trials.compilations


def _within(
    trials: Trials[AnyPlan], budget: int, may_be_uniform: bool, than: float, apart: int, may_open: bool = False
) -> Trial[AnyPlan] | None:
    """The plan for a budget: up from just above it, then down until one fits; None where that is no faster than `than`.

    Where a compiler packs the arrays of a plan far worse than predicted, it may pack those of a uniform plan better: that is
    tried too, and taken if it fits, unless a faster plan does. What a compiler never writes where it may fuse across stages
    it writes at their fences: where no plan fits, the open program is tried before that is said, and what is the smallest
    program where that is asked for.

    Raises:
        BudgetError: there is none.
    """
    first = _first_rung(trials, budget)
    fastest = trials.planned(_aim(first))[0]
    if fastest.seconds >= than:
        return None
    if target_of(fastest).platform.slow_probes:
        apart = max(apart, STEP)
    asked = _asked_instead(trials, fastest, budget, than)
    if asked is not None:
        return asked
    top = _climbed(trials, first, budget)
    # What was passed on the way up fits.
    lowest = top - STEP if top > first else 0
    rung = top
    uniform: Trial[AnyPlan] | None = None
    while True:
        planned = trials.planned(_aim(rung))
        if uniform is not None and uniform.plan.seconds <= planned[0].seconds:
            return uniform
        if planned[0].seconds >= than:
            return None
        asked = _asked_instead(trials, planned[0], budget, than)
        if asked is not None:
            return asked
        trial = trials.tried(*planned)
        if trial.peak_bytes <= budget:
            return trial
        called = called_instead(trials, trial)
        if called is not None and called.peak_bytes <= budget:
            return called
        if may_be_uniform and uniform is None and trial.peak_bytes > (1 + FAR) * max(budget, trial.plan.peak_bytes):
            uniform = trials.uniform(_aim(rung), budget)
        if trials.least is not None and trials.least[0] == actions_of(trial.plan):
            if uniform is not None:
                return uniform
            opened = opened_instead(trials, budget) if may_open else None
            if opened is not None and opened.peak_bytes <= budget:
                return opened
            near = smallest_near(trials, trial, False)
            if near.peak_bytes <= budget:
                return near
            smallest, stage = trials.smallest, trials.least[1]
            if trials.confirmed(trial) and trials.confirmed(smallest):
                policy = trial.plan.parts[0].schedule.policy
                if not smallest.plan.fenced:
                    # No stage sets the peak where all are one.
                    raise BudgetError(budget, smallest.peak_bytes, None, policy)
                raise BudgetError(budget, smallest.peak_bytes, stage, policy, floor=partial(_floor, trial.plan))
            return _within(trials, budget, may_be_uniform, than, apart, may_open)
        if rung <= lowest:
            # What was passed on the way up was told to fit by an account of its steps, and does not.
            lowest = 0
        least = trial.peak_bytes if called is None else min(trial.peak_bytes, called.peak_bytes)
        excess, aim = least - budget, _aim(rung)
        if trials.count >= MOST_ROUNDS:
            aim, lowest = 1, 0
        elif excess > FAR * budget or trials.count >= MAX_ROUNDS:
            aim = min(aim, trial.plan.peak_bytes) - excess
        rung = max(lowest, min(rung - 1, floor(log(max(aim, 1), RUNG))) // apart * apart)


def _asked_instead(trials: Trials[AnyPlan], plan: AnyPlan, budget: int, than: float) -> Trial[AnyPlan] | None:
    """The fastest of the smallest plans, where compiling takes long and that is about as fast as the plan for a budget.

    The compiler was asked about all stages of it, if it runs none but those of the smallest plan: what is told of it is
    surer than that another one is faster by so little (`NEARLY`), and to compile both takes twice as long. Which one that is
    does not depend on the budget, so that a larger one takes it only where a smaller one does that has room for it.
    """
    if not target_of(plan).platform.slow_probes:
        return None
    if trials.asked is None:
        return None
    known, jitted = trials.asked
    if known.peak_bytes > budget or known.seconds > min(NEARLY * plan.seconds, than):
        return None
    if actions_of(known) == actions_of(plan):
        return None
    trial = trials.tried(known, jitted)
    return trial if trial.peak_bytes <= budget else None


def _floor(smallest: Planned) -> Floor | None:
    """What the smallest plan holds; of a step with several gradients no single one sets its peak."""
    plan = smallest.parts[0]
    return floor_of(plan.program, plan.costs, plan.schedule) if len(smallest.parts) == 1 else None


def _first_rung(trials: Trials[AnyPlan], budget: int) -> int:
    """The rung on which the climb begins: just above the budget. Where compiling takes long, the one whose plan is within
    the budget if the compiler takes as much more than predicted as it usually does: that may be the only program then."""
    platform = target_of(trials.build(None)[0]).platform
    below = 1 + platform.excess if platform.slow_probes else 1
    return STEP * (floor(log(max(budget / below, 1), RUNG) / STEP) + (not platform.slow_probes))


def _without_budget(trials: Trials[AnyPlan], may_open: bool) -> Trial[AnyPlan]:
    """The plan without a budget, with its stages fenced or open.

    Fences are for recomputation, which is merged away without them. So stages are open where fences cost time
    (`open_is_faster`), and, of a plan that repeats none, where the compiler keeps less in memory if it may fuse across.
    """
    plan, jitted = trials.build(None)
    if may_open and _open_is_faster(plan):
        return trials.opened() or trials.tried(plan, jitted)
    if not may_open or any(part.simulation.recomputations for part in plan.parts):
        return trials.tried(plan, jitted)
    fenced = trials.tried(plan, jitted)
    if fenced.temporary_bytes <= FEW_BYTES:
        return fenced
    return min(fenced, trials.tried(*trials.build(None, fenced=False)), key=lambda trial: trial.peak_bytes)


def _open_is_faster(planned: Planned) -> bool:
    return any(open_is_faster(plan.program) for plan in planned.parts)


def _open_or_within(
    trials: Trials[AnyPlan], budget: int, may_be_uniform: bool, than: float, apart: int
) -> Trial[AnyPlan] | None:
    """The plan for a budget, or the open program where that is within the budget and no slower.

    If that is as fast as any plan with fences can be, none of these is compiled. A larger budget has both to choose from
    that a smaller one had, or what is faster.

    Raises:
        BudgetError: neither is within the budget.
    """
    opened = _opened_within(trials, budget)
    if opened is not None and opened.seconds <= opened.plan.least_seconds:
        return opened
    try:
        fenced = _within(trials, budget, may_be_uniform, than, apart, may_open=opened is None)
    except BudgetError:
        if opened is None:
            raise
        return opened
    if fenced is None or opened is None:
        return fenced or opened
    return fenced if _as_stated(fenced) < opened.seconds else opened


def _as_stated(trial: Trial[AnyPlan]) -> float:
    """The seconds of a program as its compiler states them, where chunks stay near; else those that are estimated.

    To ask a compiler about all stages takes long there, and estimates of plans about which it was not asked are less sure.
    """
    platform = target_of(trial.plan).platform
    stated = trial.program.seconds() if platform.slow_probes and platform.near_memory else None
    return trial.seconds if stated is None else stated


def _faster_as_stated(trials: Trials[AnyPlan], found: Trial[AnyPlan], budget: int) -> Trial[AnyPlan]:
    """What was found for a budget; or, where its compiler states more seconds for it than estimated, a plan within fewer
    bytes that is estimated to take less than that, if it does: as often as one is faster than the last.

    If the compiler was asked about all stages of what was found, it states more for others as well.
    """
    for halved in range(1, MOST_HALVED + 1):
        stated = _as_stated(found)
        if not found.plan.fenced or stated <= WORTH * found.seconds:
            break
        if trials.is_asked(found.plan):
            break
        plan, jitted = trials.planned(budget >> halved)
        if plan.seconds * (1.0 if trials.is_asked(plan) else UNASKED) >= stated:
            break
        if actions_of(plan) == actions_of(found.plan):
            continue
        other = trials.tried(plan, jitted)
        if other.peak_bytes > budget or _as_stated(other) >= stated:
            break
        found = other
    return found


def _opened_within(trials: Trials[AnyPlan], budget: int) -> Trial[AnyPlan] | None:
    """The open program, if fences cost time and it is within the budget.

    It is tried where the fastest plan is predicted to fit, or nearly so (`FAR`): the open one may take less. It may take
    more, too, where that plan repeats something inside its stages, which is merged away in an open program: where compiling
    takes long it is not tried if to store everything is predicted to take far more than the budget (`MERGED`).
    """
    plan, _ = trials.build(None)
    if plan.peak_bytes > (1 + FAR) * budget or not _open_is_faster(plan):
        return None
    if target_of(plan).platform.slow_probes and everything_of(plan) > MERGED * budget:
        return None
    opened = trials.opened()
    return None if opened is None or opened.peak_bytes > budget else opened


def _climbed(trials: Trials[AnyPlan], first: int, budget: int) -> int:
    """The rung on which the climb ends: the first whose plan uses the budget, or after which no plan is worth trying.

    A plan is worth trying if some plan is faster than the last one (`WORTH`), and if its prediction, corrected by the last
    one's error, is within the budget or nearly so (`DIP`). Where compiling takes long, the last one must be slower than
    others by more than what is unsure of them (`UNASKED`), and than one within a little more bytes (`AHEAD`), and take no
    longer than told.
    """
    rung, planned = first, trials.planned(_aim(first))
    fastest: float | None = None
    last = first + MOST_STEPS * STEP
    slow = target_of(planned[0]).platform.slow_probes
    near = UNASKED if slow else WORTH
    while (taken := trials.taken(*planned)) < (1 - SLACK) * budget and trials.count <= MOST_CLIMBED and rung < last:
        fastest = trials.build(None)[0].seconds if fastest is None else fastest
        following = trials.planned(_aim(rung + STEP))
        # The first plan that is not the same is above this rung's aim, wherever it is.
        predicted = max(following[0].peak_bytes, _aim(rung))
        error = taken / max(1, planned[0].peak_bytes)
        if planned[0].seconds <= fastest * near or DIP * error * predicted > budget:
            break
        # Below what the smallest plan is predicted to take, that is the plan of every rung.
        here = max(rung, floor(log(max(1, planned[0].peak_bytes), RUNG)))
        if slow and AHEAD_WORTH * trials.planned(_aim(here + AHEAD))[0].seconds > planned[0].seconds:
            break
        if slow and _takes_longer_than_told(trials, *planned):
            break
        rung, planned = rung + STEP, following
    return rung


def _takes_longer_than_told(trials: Trials[AnyPlan], plan: AnyPlan, jitted: Any) -> bool:
    """Whether the compiler states more for a plan than what is unsure of it (`UNASKED`): that others near it seem faster
    tells nothing then."""
    if isinstance(jitted, KnownOnPaper):
        return False
    trial = trials.tried(plan, jitted)
    return _as_stated(trial) > UNASKED * trial.seconds
