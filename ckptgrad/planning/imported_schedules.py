"""Schedules written elsewhere: those of the `checkpoint-schedules` package, and plans saved as JSON.

The package (Dolci, Maddison, Ham, Pallez and Herrmann 2024) describes Revolve, multistage, H-Revolve, mixed, two-level
and other schedules as actions on storage levels; here all levels are one memory, so that `Copy` and `Move` cost nothing
and only forget.  Its actions are recognised by name: the package itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.policy import Policy
from ckptgrad.planning.referee import simulate
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.planning.writer import ScheduleWriter


def from_checkpoint_schedules(schedule: Any) -> Policy:
    """A policy that runs a schedule of the `checkpoint-schedules` package, one of its steps per stage.

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
    """The actions of one reversal; a schedule that waits for the number of steps is told it."""
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
                writer.append(Free(b))
                held.discard(b)

    for action in actions:
        match type(action).__name__:
            case "Forward":
                first, end = int(action.n0), min(int(action.n1), n)
                if action.write_ics:
                    stored.add(first)
                for stage in range(first, end):
                    keep = costs.stages[stage].fastest if action.write_adj_deps else None
                    writer.append(Forward(stage, keep))
                    held.add(stage + 1)
                    if keep is not None:
                        kept[stage] = keep
                    forget(stage + 1)
            case "Reverse":
                for stage in range(int(action.n1) - 1, int(action.n0) - 1, -1):
                    writer.append(Backward(stage))
                    kept.pop(stage, None)
                    forget(None)
            case "Move" if action.n in stored:
                stored.discard(int(action.n))
            case _:
                pass
    stored.clear()
    forget(None)
    return writer


# The format of plans saved as JSON: raised whenever something that `load_plan` reads changes its meaning.
FORMAT = 1


def load_plan(source: str | Path) -> Policy:
    """A plan that was saved with `Plan.to_json`, as a policy that repeats it.

    Args:
        source: the JSON text, or the path of a file with it.

    Raises:
        ScheduleError: at once, if this is not a plan, or a plan that breaks the rules of its actions; when planning, if the
            function is cut into other stages or save options than the one that the plan was made for.
        BudgetError: when planning, if the plan needs more than the budget.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> f = lambda x: jnp.sum(jnp.sin(x) ** 2)
        >>> saved = cg.plan(f, jnp.ones(8), policy="recompute_all").to_json()
        >>> str(cg.plan(f, jnp.ones(8), policy=cg.load_plan(saved)).schedule).split(":")[0]
        'recompute_all'
    """
    schedule, options = _saved(_read(source))

    def run(costs: ChainCosts, budget: int | None = None) -> Schedule:
        here = [tuple(option.name for option in stage.options) for stage in costs.stages]
        if here != options:
            at = next((i for i, (a, b) in enumerate(zip(here, options, strict=False)) if a != b), None)
            what = f"{len(options)} stages, not {len(here)}" if at is None else f"other save options at stage {at}"
            raise ScheduleError(f"the saved plan is for {what}; plan this function again")
        simulate(schedule, costs)
        writer = ScheduleWriter(costs)
        writer.replay(schedule)
        if not writer.fits(budget):
            assert budget is not None
            raise BudgetError(budget, writer.peak, writer.peak_stage, schedule.policy)
        return schedule

    # Whoever cuts a function into stages can see for how many it is.
    run.__dict__["stages"] = len(options)
    return run


def _read(source: Any) -> str:
    """The text of a saved plan."""
    if isinstance(source, str) and source.lstrip()[:1] in ("", "{", "[", '"'):
        return source
    if not isinstance(source, (str, Path)):
        raise ScheduleError(f"a saved plan is the text of Plan.to_json, or the path of a file with it; not {source!r}")
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ScheduleError(f"cannot read a saved plan from {str(source)[:200]!r}: {error}") from None


def _saved(text: str) -> tuple[Schedule, list[tuple[str, ...]]]:
    """The schedule of a saved plan and the save options of each stage, judged by the rules of actions."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_a_plan(f"{type(error).__name__}: {error}") from None
    if not isinstance(data, dict):
        raise _not_a_plan("it is not a JSON object")
    fields = cast("dict[str, Any]", data)
    format = fields.get("format", FORMAT)  # the first plans were saved without one
    if type(format) is not int or format != FORMAT:
        raise ScheduleError(f"this plan is saved in format {format!r}, and this version of ckptgrad reads format {FORMAT}")
    policy, actions, options = fields.get("policy"), fields.get("schedule"), fields.get("options")
    if not isinstance(policy, str):
        raise _not_a_plan("its 'policy' is not a string")
    if not _are_texts(actions):
        raise _not_a_plan("its 'schedule' is not a list of strings")
    if not _are_named_options(options):
        raise _not_a_plan("its 'options' are not one list of names per stage")
    schedule = Schedule.parse(actions, policy)
    # Whatever the sizes and times are, and as if no backward read a boundary; that is judged when they are known.
    stages = (
        StageCost(tuple(SaveOption(name, 0, False, False, 0.0, 0.0) for name in names), 0, 0, 0.0) for names in options
    )
    simulate(schedule, ChainCosts(tuple(stages)))
    return schedule, [tuple(names) for names in options]


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(x, str) for x in cast("list[Any]", value))


def _are_named_options(value: Any) -> TypeGuard[list[list[str]]]:
    """Whether it is one list of names per stage, none of them empty."""
    if not isinstance(value, list):
        return False
    lists = cast("list[Any]", value)
    return bool(lists) and all(names and _are_texts(names) for names in lists)


def _not_a_plan(why: str) -> ScheduleError:
    return ScheduleError(f"this is not a plan saved by ckptgrad: {why}")
