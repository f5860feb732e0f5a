"""Schedules written elsewhere: those of the `checkpoint-schedules` package, and plans saved as JSON.

The package (Dolci, Maddison, Ham, Pallez and Herrmann 2024) describes Revolve, multistage, H-Revolve, mixed, two-level
and other schedules as actions on storage levels; here all levels are one memory, so that `Copy` and `Move` cost nothing
and only forget.  Its actions are recognised by name: the package itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.policy import Policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.planning.writer import ScheduleWriter


def from_checkpoint_schedules(schedule: Any) -> Policy:
    """A policy that runs a schedule of the `checkpoint-schedules` package, one of its steps a stage.

    Args:
        schedule: a `CheckpointSchedule`; one with a fixed number of steps must have as many as the chain has stages.

    Returns:
        A policy for `policy=`.  Where the schedule keeps residuals ("adjoint dependencies"), each stage's fastest save
        option is kept.

    Raises:
        ScheduleError: when planning, if the numbers of steps and stages differ.
        BudgetError: when planning, if the schedule needs more than the budget.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> from checkpoint_schedules import Revolve
        >>> f = lambda x: jnp.sum(jnp.sin(jnp.sin(x)))
        >>> steps = len(cg.plan(f, jnp.ones(4)).costs)
        >>> cg.plan(f, jnp.ones(4), policy=cg.from_checkpoint_schedules(Revolve(steps, 1))).schedule.policy
        'Revolve'
    """
    name, recorded = type(schedule).__name__, list[Any]()

    def run(costs: ChainCosts, budget: int | None = None) -> Schedule:
        n = len(costs)
        steps = schedule.max_n if not recorded else recorded[-1]
        if steps is not None and steps != n:
            raise ScheduleError(f"{name} is for {steps} steps, but the chain has {n} stages; make it for {n}")
        if not recorded:
            recorded.extend([*_record(schedule, n), n])
        writer = _write(costs, recorded[:-1])
        return writer.finish(name, budget)

    return run


def _record(schedule: Any, n: int) -> Iterable[Any]:
    """The actions of one reversal, the number of steps told to a schedule that waits for it."""
    for action in schedule:
        if type(action).__name__ == "EndReverse":
            return
        yield action
        if schedule.max_n is None and type(action).__name__ == "Forward" and action.n1 >= n:
            schedule.finalize(n)


def _write(costs: ChainCosts, actions: Sequence[Any]) -> ScheduleWriter:
    n, writer = len(costs), ScheduleWriter(costs)
    held, stored, kept = {0}, set[int](), dict[int, int]()

    def forget(working: int | None) -> None:
        for b in sorted(held - stored - {working, n}):
            read = b in kept and costs.stages[b].options[kept[b]].reads_input
            written = b - 1 in kept and costs.stages[b - 1].options[kept[b - 1]].reads_output
            if not read and not written:
                writer.free(b)
                held.discard(b)

    for action in actions:
        match type(action).__name__:
            case "Forward":
                first, end = int(action.n0), min(int(action.n1), n)
                if action.write_ics:
                    stored.add(first)
                for stage in range(first, end):
                    keep = costs.stages[stage].fastest if action.write_adj_deps else None
                    writer.forward(stage, keep)
                    held.add(stage + 1)
                    if keep is not None:
                        kept[stage] = keep
                    forget(stage + 1)
            case "Reverse":
                for stage in range(int(action.n1) - 1, int(action.n0) - 1, -1):
                    writer.backward(stage)
                    kept.pop(stage, None)
                    forget(None)
            case "Move" if action.n in stored:
                stored.discard(int(action.n))
    stored.clear()
    forget(None)
    return writer


def load_plan(source: str | Path) -> Policy:
    """A plan that was saved with `Plan.to_json`, as a policy that repeats it.

    Args:
        source: the JSON text, or the path of a file with it.

    Raises:
        ScheduleError: the text is no plan; or, when planning, the function is cut into other stages or save options
            than the one that the plan was made for.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> f = lambda x: jnp.sum(jnp.sin(x) ** 2)
        >>> saved = cg.plan(f, jnp.ones(8), policy="recompute_all").to_json()
        >>> str(cg.plan(f, jnp.ones(8), policy=cg.load_plan(saved)).schedule).split(":")[0]
        'recompute_all'
    """
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    text = str(source) if is_text else Path(source).read_text()
    try:
        data = json.loads(text)
        schedule = Schedule.parse(data["schedule"], data["policy"])
        options = [tuple(names) for names in data["options"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ScheduleError(f"this is no plan saved by ckptgrad: {type(error).__name__}: {error}") from None

    def run(costs: ChainCosts, budget: int | None = None) -> Schedule:
        found = [tuple(option.name for option in stage.options) for stage in costs.stages]
        if found != options:
            at = next((i for i, (a, b) in enumerate(zip(found, options, strict=False)) if a != b), None)
            what = f"{len(options)} stages, not {len(found)}" if at is None else f"other save options at stage {at}"
            raise ScheduleError(f"the saved plan is for {what}; plan this function anew")
        writer = ScheduleWriter(costs)
        writer.replay(schedule)
        if not writer.fits(budget):
            assert budget is not None
            raise BudgetError(budget, writer.peak, writer.peak_stage, schedule.policy)
        return schedule

    return run
