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

from ckptgrad.binomial import advance
from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import backward_change, forward_change
from ckptgrad.planning.nested import Decision, Keep, Segment, Split, write_nested
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.planning.writer import ScheduleWriter


def with_checkpoints(costs: ChainCosts, checkpoints: int) -> ScheduleWriter:
    """Write the binomial schedule with at most `checkpoints` boundaries held, the chain's input counted."""
    if checkpoints < 1:
        raise ValueError(f"checkpoints={checkpoints} is too small: the chain's input is a checkpoint itself; pass 1 or more")
    fastest = {id(stage): stage.fastest for stage in costs.stages}

    def decide(segment: Segment) -> Decision:
        first, last, _, free = segment
        if first == last:
            return Keep(fastest[id(costs.stages[first])])
        return Split(first + advance(last - first + 1, free), right=free - 1, left=free)

    return write_nested(costs, decide, min(checkpoints, len(costs)))


@policy(
    "revolve",
    references=(
        "Griewank and Walther 2000, Algorithm 799: revolve, doi:10.1145/347837.347846",
        "Griewank 1992, Achieving logarithmic growth of temporal and spatial complexity in reverse AD",
    ),
)
def revolve(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """Binomial checkpointing with the most checkpoints that `budget` bytes hold, found by bisection.

    Without a budget there are 1 + ceil(log2 n) checkpoints, so that no stage is repeated more often than about that.
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
    smallest, stage = min(_one_checkpoint_peak(costs), (most.peak, most.peak_stage or 0))
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
    result, last = costs.boundary_bytes(len(costs)), len(costs) - 1
    source = costs.boundary_bytes(0)
    base = costs.held_bytes + source
    needs: list[tuple[int, int]] = []
    reach, reach_stage = 0, 0
    for i, stage in enumerate(costs.stages):
        keep, is_last = stage.fastest, i == last
        option = stage.options[keep]
        held = base + stage.cotangent_bytes + (0 if is_last else result)
        if i:
            needs.append((reach + held - base, reach_stage))
        before = costs.boundary_bytes(i) if i else 0  # The chain's input is in `base`.
        forward = forward_change(stage, keep, output=option.reads_output or is_last)
        needs.append((held + before + forward.during, i))
        held += forward.after
        if option.reads_input:
            held += before
        elif i == 0:
            held -= source
        needs.append((held + backward_change(stage, keep, costs.cotangent_bytes(i)).during, i))
        sweep = base + before + forward_change(stage).during
        if sweep > reach:
            reach, reach_stage = sweep, i
    return max(needs, key=lambda need: (need[0], -need[1]))
