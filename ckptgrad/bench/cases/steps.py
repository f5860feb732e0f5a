"""The forward steps that our schedules take, against those of the checkpoint-schedules package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ckptgrad.bench.peers import CHECKPOINT_SCHEDULES
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.planning import ChainCosts, get_policy
from ckptgrad.planning.loop_referee import offline_starts, online_starts, steps_run
from ckptgrad.planning.policies.revolve import with_checkpoints

SIZES = ((10, 3), (50, 5), (100, 10), (250, 25), (1000, 10))
QUICK_SIZES = SIZES[:2]
WORKING_SET = 2  # slots for the step being reversed: its residuals and the cotangent


@case("steps", "Forward steps taken, against the schedules of checkpoint-schedules")
def steps(bench: Bench) -> Iterator[Row]:
    """n equal steps, s checkpoints.

    Revolve, H-Revolve and the loops store states; a step's residuals exist only right before its backward. In the mixed
    model a checkpoint may hold residuals in place of a state. H-Revolve has one of its checkpoints on disk. A loop runs
    forward to its end before it is reversed; the online loop does not know n until then (Wang, Moin and Iaccarino 2009).
    """
    for n, s in bench.size(SIZES, QUICK_SIZES):
        group = f"n = {n:,}, s = {s}"
        bench.announce(group)
        binomial = with_checkpoints(ChainCosts.uniform(n), s).finish("revolve")
        yield row("ours, revolve", group, forward_steps=binomial.forwards)
        yield row("ours, loop", group, forward_steps=steps_run(n, s, 1, offline_starts(n, s)))
        yield row("ours, online loop", group, forward_steps=steps_run(n, s, 1, online_starts(n, s)))
        yield from package_rows(n, s, group, ("Revolve", "HRevolve"))
        mixed = get_policy("optimal")(mixed_units(n), s + WORKING_SET)
        yield row("ours, optimal in the mixed model", group, forward_steps=mixed.forwards)
        yield from package_rows(n, s, group, ("MixedCheckpointSchedule",))


def package_rows(n: int, s: int, group: str, names: tuple[str, ...]) -> Iterator[Row]:
    """One row per schedule of the package."""
    for name in names:
        run = f"checkpoint-schedules, {name.removesuffix('CheckpointSchedule')}"
        if CHECKPOINT_SCHEDULES.skip:
            yield row(run, group, skipped=CHECKPOINT_SCHEDULES.skip)
            continue
        slots = (s - 1, 1) if name == "HRevolve" else (s,)
        yield row(run, group, forward_steps=forward_steps(getattr(CHECKPOINT_SCHEDULES.load(), name)(n, *slots)))


def forward_steps(schedule: Any) -> int:
    """How many steps a schedule of the package runs forward before everything is reversed once."""
    total = 0
    for action in schedule:
        match type(action).__name__:
            case "Forward":
                total += action.n1 - action.n0
            case "EndReverse":
                break
    return total


def mixed_units(n: int) -> ChainCosts:
    """The model of mixed schedules: states and residuals of one byte each, and a result of none."""
    costs = ChainCosts.uniform(n, cotangent_bytes=0)
    return replace(costs, stages=(*costs.stages[:-1], replace(costs.stages[-1], boundary_bytes=0)))
