"""Rotor: the optimal persistent schedule when a segment's input stays held until the segment is done.

Algorithm: Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova (2019), extended to several save
options per stage. It is the recurrence of `dynamic_programming` for a chain whose every backward reads its stage's input
and output.
Aliases: heterogeneous-chain checkpointing, PyTorch's `rotor`, Rockmate's `rk_rotor`.
Regime: a baseline; backwards that read their input and output anyway.
Does not: free an input that only the forward reads, and so needs more memory than `optimal` for the same time.
"""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.nested import keep_fastest, write_nested
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule


@policy(
    "rotor",
    references=("Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova 2019, hal-02352969",),
)
def rotor(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """The fastest persistent schedule within `budget` bytes; without one, each stage's fastest option."""
    pinned = replace(costs, stages=tuple(map(_reads_everything, costs.stages)))
    everything = write_nested(pinned, keep_fastest(pinned))
    if budget is None or everything.fits(budget):
        return everything.finish("rotor", budget)
    optimum = Optimum(pinned)
    if budget < optimum.least_bytes:
        stage = optimum.write(optimum.least_bytes, fast=False).peak_stage
        raise BudgetError(budget, optimum.least_bytes, stage, "rotor")
    return optimum.write(budget).finish("rotor", budget)


def _reads_everything(stage: StageCost) -> StageCost:
    options = tuple(replace(option, reads_input=True, reads_output=True) for option in stage.options)
    return replace(stage, options=options)
