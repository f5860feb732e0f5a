"""The numbers of binomial checkpointing: repetitions, extra forwards, and where the next checkpoint goes.

Policies count stages by them, ways to reverse loops steps or groups of steps.
Source: Griewank and Walther (2000), Algorithm 799. The initial state counts as a checkpoint.
"""

from __future__ import annotations

from functools import cache
from math import comb


def repetitions(stages: int, checkpoints: int) -> int:
    """The least r with C(checkpoints + r, checkpoints) >= stages."""
    r = 0
    while comb(checkpoints + r, checkpoints) < stages:
        r += 1
    return r


@cache
def extra_forwards(stages: int, checkpoints: int) -> int:
    """The number of forwards that Revolve runs beyond the one of each stage that keeps residuals: t(l, c)."""
    r = repetitions(stages, checkpoints)
    return r * stages - comb(checkpoints + r, checkpoints + 1)


@cache
def advance(stages: int, checkpoints: int) -> int:
    """How far to go before the next checkpoint: the least advance that is optimal."""
    if checkpoints == 1:
        return stages - 1
    r = repetitions(stages, checkpoints)
    least = comb(checkpoints + r - 2, checkpoints) if r > 1 else 1
    return max(1, least, stages - comb(checkpoints - 1 + r, checkpoints - 1))
