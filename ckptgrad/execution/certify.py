"""Compile, read XLA's buffer assignment, and replan until the certified peak is within the budget."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from ckptgrad.execution.certified import Certified
from ckptgrad.execution.search import fastest_within
from ckptgrad.execution.trials import Build
from ckptgrad.results.plan import Plan
from ckptgrad.target.processes import ALONE, Processes


def certify(
    build: Build[Plan], args: Any, kwargs: Any, budget: int | None, may_open: bool = False, processes: Processes = ALONE
) -> Certified:
    """Compile plans for one aim after another until the compiler's peak is within the budget and uses it.

    The plans that are tried are those of `execution.search`. A larger budget never gives a slower plan.

    Args:
        build: what makes a plan for an aim.
        args, kwargs: abstract arguments.
        budget: bytes, or None for none.
        may_open: whether other plans than those of the ladder may be taken: the fastest one with its stages open to each
            other, and uniform ones.
        processes: those that compile the program together.

    Raises:
        BudgetError: the smallest plan does not fit; carries the smallest certified peak.
    """
    found = certify_faster(build, args, kwargs, budget, inf, may_open=may_open, may_be_uniform=may_open, processes=processes)
    assert found is not None
    return found


def certify_faster(
    build: Build[Plan],
    args: Any,
    kwargs: Any,
    budget: int | None,
    than: float,
    *,
    may_open: bool,
    may_be_uniform: bool,
    least: bool = False,
    processes: Processes = ALONE,
) -> Certified | None:
    """As `certify`, where that is estimated to take less than `than` seconds; None where it is not.

    Nothing is compiled where the plan for the budget, which climbs no rung, is not faster already. With `least`, and no
    budget, the program of the fewest bytes.

    Raises:
        BudgetError: as from `certify`, where the smallest plan is faster.
    """
    found = fastest_within(
        build, args, kwargs, budget, than, may_open=may_open, may_be_uniform=may_be_uniform, least=least, processes=processes
    )
    if found is None:
        return None
    trial, rounds = found
    plan = trial.plan if trial.plan.fenced else replace(trial.plan, open_seconds=trial.seconds)
    return Certified(trial.program.executable, plan, trial.program.memory, rounds, budget, trial.expected)
