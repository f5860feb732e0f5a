"""A lower bound on the seconds of every schedule within a budget, nested or not.

Argument: look at the moment before the first backward.  There each stage but the last either holds residuals, which take
bytes, or must run forward once more, after the forward that ran for the stages behind it.  Choosing for each
stage one or the other, all residuals together within the budget, with the least seconds, is a multiple-choice
knapsack; its linear relaxation is solved by taking the steps of each stage's lower convex hull in the order of
seconds gained per byte (Sinha and Zoltners 1979).
Does not: count the boundaries that recomputation starts from, the transients, or more than one recomputation: with
tight budgets the bound is far below what is possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import kept_bytes, opening


def least_seconds(costs: ChainCosts, budget: int | None) -> float:
    """Seconds that no schedule whose peak is within `budget` bytes (None: no budget) can beat."""
    if budget is None:
        return sum(min(o.time for o in stage.options) for stage in costs.stages)
    start = opening(costs)
    room = float(budget - start.results - start.gradients)
    total, steps = 0.0, list[tuple[float, int]]()
    last = len(costs) - 1
    for i, stage in enumerate(costs.stages):
        hull = ways_hull(stage, may_repeat=i < last)
        room -= hull[0][0]
        total += hull[0][1]
        steps += steps_of(hull)
    # Steeper steps of a stage come first in its hull, so that the order of all steps keeps that of each stage.
    for gain, size in sorted(steps, reverse=True):
        if room <= 0:
            break
        step = min(size, room)
        total -= gain * step
        room -= step
    return total


def ways_hull(stage: StageCost, may_repeat: bool) -> list[tuple[int, float]]:
    """(bytes held before a backward behind it, total seconds) of the ways to treat a stage: their lower convex hull."""
    ways = [(kept_bytes(stage, k), option.time) for k, option in enumerate(stage.options)]
    if may_repeat:
        first = min(stage.forward_time, *(option.forward_time for option in stage.options))
        ways.append((0, first + min(option.time_alone for option in stage.options)))
    return _hull(ways)


def steps_of(hull: list[tuple[int, float]]) -> Iterator[tuple[float, int]]:
    """(seconds gained per byte, bytes) of each step along a hull."""
    return (((t0 - t1) / (b1 - b0), b1 - b0) for (b0, t0), (b1, t1) in pairwise(hull))


def _hull(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The lower convex hull of (bytes, seconds), from fewest bytes to least seconds."""
    hull: list[tuple[int, float]] = []
    for bytes_, seconds in sorted(points):
        if hull and seconds >= hull[-1][1]:
            continue
        while hull and bytes_ == hull[-1][0]:
            hull.pop()
        while len(hull) > 1:
            (b0, t0), (b1, t1) = hull[-2:]
            if (t0 - t1) * (bytes_ - b1) > (t1 - seconds) * (b1 - b0):
                break
            hull.pop()
        hull.append((bytes_, seconds))
    return hull
