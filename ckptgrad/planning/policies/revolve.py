"""Revolve: binomial checkpointing, optimal in forward steps for c checkpoints on a chain of equal stages.

Algorithm: Griewank and Walther (2000). With c checkpoints, the initial state counted, and r repetitions of
any stage, C(c + r, c) stages can be reversed; l stages take t = r l - C(c + r, c + 1) extra forwards, r being
minimal.
Aliases: binomial checkpointing, treeverse (Griewank 1992, whose delta does not count the initial state).
Regime: equal stages whose residuals are kept for one stage at a time, to 10^5 stages and more: no table is
needed.
Does not: weigh bytes or seconds stage by stage, or keep residuals across stages; `optimal` does both.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import comb

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.nested import Decision, Keep, Segment, Split, write_nested
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.planning.writer import ScheduleWriter


def repetitions(stages: int, checkpoints: int) -> int:
    """The least r with C(checkpoints + r, checkpoints) >= stages."""
    r = 0
    while comb(checkpoints + r, checkpoints) < stages:
        r += 1
    return r


def extra_forwards(stages: int, checkpoints: int) -> int:
    """How many forwards Revolve runs beyond the one of each stage that keeps residuals: t(l, c)."""
    r = repetitions(stages, checkpoints)
    return r * stages - comb(checkpoints + r, checkpoints + 1)


def with_checkpoints(costs: ChainCosts, checkpoints: int) -> ScheduleWriter:
    """Write the binomial schedule with at most `checkpoints` boundaries held, the chain's input counted."""
    if checkpoints < 1:
        raise ValueError(f"the chain's input is a checkpoint, at least one is needed, got {checkpoints}")
    fastest = {id(stage): stage.fastest for stage in costs.stages}

    def decide(segment: Segment) -> Decision:
        first, last, _, free = segment
        if first == last:
            return Keep(fastest[id(costs.stages[first])])
        return Split(first + advance(last - first + 1, free), right=free - 1, left=free)

    return write_nested(costs, decide, min(checkpoints, len(costs)))


@cache
def advance(stages: int, checkpoints: int) -> int:
    """How far to go before the next checkpoint: the least advance that is optimal."""
    if checkpoints == 1:
        return stages - 1
    r = repetitions(stages, checkpoints)
    least = comb(checkpoints + r - 2, checkpoints) if r > 1 else 1
    return max(1, least, stages - comb(checkpoints - 1 + r, checkpoints - 1))


@policy(
    "revolve",
    references=(
        "Griewank and Walther 2000, Algorithm 799: revolve, doi:10.1145/347837.347846",
        "Griewank 1992, Achieving logarithmic growth of temporal and spatial complexity in reverse AD",
    ),
)
def revolve(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """Binomial checkpointing with the most checkpoints that `budget` bytes hold, found by bisection.

    Without a budget the number of checkpoints is 1 + ceil(log2 n), which keeps repetitions about as few.
    """
    if budget is None:
        return with_checkpoints(costs, 1 + (len(costs) - 1).bit_length()).finish("revolve")
    return most_checkpoints(costs, budget).finish("revolve", budget)


def most_checkpoints(costs: ChainCosts, budget: int) -> ScheduleWriter:
    """The binomial schedule with the most checkpoints that fit.

    Raises:
        BudgetError: not even one checkpoint fits, or all of them.
    """
    most = with_checkpoints(costs, len(costs))
    if most.fits(budget):
        return most
    smallest, stage = min(_one_checkpoint_peak(costs), (most.peak, most.peak_stage))
    if budget < smallest:
        raise BudgetError(budget, smallest, stage, "revolve")
    fitting, refused, best = 1, len(costs), None
    while refused - fitting > 1:
        middle = (fitting + refused) // 2
        writer = with_checkpoints(costs, middle)
        if writer.fits(budget):
            fitting, best = middle, writer
        else:
            refused = middle
    return best or with_checkpoints(costs, 1)


def _one_checkpoint_peak(costs: ChainCosts) -> tuple[int, int]:
    """The peak in bytes when the input alone is a checkpoint, and the stage that sets it.

    In linear time: the schedule itself has n(n + 1) / 2 forwards.
    """
    end = len(costs)
    base = costs.held_bytes + costs.boundary_bytes(0)
    needs = []
    reach, reach_stage = 0, 0
    for i, (before, stage) in enumerate(_steps(costs)):
        option = stage.options[stage.fastest]
        is_last = i == end - 1
        done = 0 if is_last else costs.boundary_bytes(end)
        if i:
            needs.append((reach + stage.cotangent_bytes + done, reach_stage))
        produced = stage.boundary_bytes if option.reads_output or is_last else option.hidden_bytes
        around = base + stage.cotangent_bytes + option.residual_bytes
        needs.append((around + before + done + produced + option.forward_transient, i))
        read = before if option.reads_input else 0
        read -= costs.boundary_bytes(0) if i == 0 and not option.reads_input else 0
        read += stage.boundary_bytes if option.reads_output or is_last else 0
        needs.append((around + read + done + costs.cotangent_bytes(i) + option.backward_transient, i))
        sweep = base + before + stage.boundary_bytes + stage.forward_transient
        if sweep > reach:
            reach, reach_stage = sweep, i
    return max(needs, key=lambda need: (need[0], -need[1]))


def _steps(costs: ChainCosts) -> Iterator[tuple[int, StageCost]]:
    """Each stage with the bytes of its input; the chain's input, always held, is counted elsewhere."""
    return ((costs.boundary_bytes(i) if i else 0, stage) for i, stage in enumerate(costs.stages))
