"""The smallest program of a call, and other forms of a plan that may take fewer bytes: stages as calls, or open."""

from __future__ import annotations

from ckptgrad.execution.trials import NEAR_LEAST, AnyPlan, Planned, Trial, Trials, actions_of, target_of
from ckptgrad.planning.budget import everything_peak

# The excess over a budget, as a share of it, from which on rungs are skipped.
FAR = 0.08
# The share of a budget beyond which no compiler that merges all repetitions away stays below what storing everything takes.
MERGED = 1.25
# Temporaries below which it is not worth compiling other plans beside one.
FEW_BYTES = 1 << 20
# The share of what storing everything takes from which on the smallest plan may take more than an open program.
MUCH = 0.5
# Where the compiler keeps much near, a plan is worth compiling that is predicted to take so many times as the smallest one.
OTHER = 1.01
# Of the plans near the smallest one at most so many are tried where compiling takes long.
MOST_SLOW = 2


def least_of(trials: Trials[AnyPlan], may_open: bool) -> Trial[AnyPlan]:
    """The smallest program where that is asked for, so that the plan without a limit is the smallest one."""
    return smallest_near(trials, trials.tried(*trials.build(None)), may_open)


def smallest_near(trials: Trials[AnyPlan], first: Trial[AnyPlan], may_open: bool) -> Trial[AnyPlan]:
    """The smallest program: that of the smallest plan, or, where that takes far other bytes than predicted, so that plans
    near it may take fewer, of one of these; where it takes much of what storing everything does, the open one if smaller."""
    predicted = first.plan.peak_bytes
    if first.temporary_bytes <= FEW_BYTES:
        return first
    called = called_instead(trials, first)
    if called is not None and called.peak_bytes < first.peak_bytes:
        return called
    found, is_off = [first], abs(first.peak_bytes - predicted) > FAR * predicted
    if target_of(first.plan).platform.slow_probes:
        if is_off:
            found += _near_least(trials, first)
        return min(found, key=lambda trial: trial.peak_bytes)
    if is_off:
        found += [trials.tried(*trials.planned(int(times * predicted))) for times in NEAR_LEAST]
    opened = opened_instead(trials, None) if may_open else None
    return min(found if opened is None else [*found, opened], key=lambda trial: trial.peak_bytes)


def _near_least(trials: Trials[AnyPlan], first: Trial[AnyPlan]) -> list[Trial[AnyPlan]]:
    """A few plans that are predicted to take less than the smallest one does, from the fastest on: of chunks the largest.

    Where that takes far less than predicted, as the compiler keeps much of it near, any plan may, and the smallest ones
    first: whether one more array finds room near is not told by predictions.
    """
    found: list[Trial[AnyPlan]] = []
    seen = {actions_of(first.plan)}
    any_may = first.peak_bytes < (1 - FAR) * first.plan.peak_bytes
    for times in NEAR_LEAST if any_may else reversed(NEAR_LEAST):
        plan, jitted = trials.planned(int(times * first.plan.peak_bytes))
        is_worth = plan.peak_bytes > OTHER * first.plan.peak_bytes if any_may else plan.peak_bytes < first.peak_bytes
        if is_worth and actions_of(plan) not in seen and len(found) < MOST_SLOW:
            seen.add(actions_of(plan))
            found.append(trials.tried(plan, jitted))
    return found


def called_instead(trials: Trials[AnyPlan], trial: Trial[AnyPlan]) -> Trial[AnyPlan] | None:
    """A plan with its stages as calls, where the compiler takes far more than predicted for it with barriers between them,
    as it moves what runs again past these (`Platform.calls_if_spread`); none any more once one took more with calls."""
    is_moved = trial.plan.fenced and trial.peak_bytes > (1 + FAR) * trial.plan.peak_bytes
    return trials.called(trial.plan) if is_moved and not trials.calls_take_more else None


def opened_instead(trials: Trials[AnyPlan], budget: int | None) -> Trial[AnyPlan] | None:
    """The open program, where the smallest one that was tried takes much of what storing everything does (`MUCH`): arrays
    that the compiler never writes are then written at fences. Where compiling takes long, only if that is near the budget.
    """
    plan, _ = trials.build(None)
    if trials.smallest.peak_bytes <= MUCH * everything_of(plan):
        return None
    if target_of(plan).platform.slow_probes and (budget is None or everything_of(plan) > MERGED * budget):
        return None
    return trials.opened()


def everything_of(planned: Planned) -> int:
    """What storing everything takes, as it is predicted."""
    return max(everything_peak(part.costs) for part in planned.parts)
