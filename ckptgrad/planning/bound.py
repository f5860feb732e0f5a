"""A lower bound on the seconds of every schedule within a budget, nested or not.

Argument: look at the moment before the first backward.  There each stage but the last either holds residuals, which take
bytes, or must run forward once more, after the forward that ran for the stages behind it.  Choosing for each
stage one or the other, all residuals together within the budget, with the least seconds, is a multiple-choice
knapsack; its linear relaxation is solved by taking the steps of each stage's lower convex hull in the order of
seconds gained per byte (Sinha and Zoltners 1979).
Does not: count the transients, or more than one recomputation: with tight budgets the bound is far below what is possible.
The boundaries that are read again count in `least_makespan` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import kept_bytes, opening
from ckptgrad.planning.makespan import Rates

# Shares of the time of transfers in the sums that bound it: the largest of these bounds holds.
SHARES = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 3 / 4, 1.0)


def least_seconds(costs: ChainCosts, budget: int | None) -> float:
    """Seconds that no schedule whose peak is within `budget` bytes (None: no budget) can beat."""
    if budget is None:
        return sum(min(o.time for o in stage.options) for stage in costs.stages)
    last = len(costs) - 1
    return _cheapest(costs, budget, (ways_hull(stage, may_repeat=i < last) for i, stage in enumerate(costs.stages)))


def least_makespan(costs: ChainCosts, budget: int, rates: Sequence[Rates]) -> float:
    """Seconds that no schedule within `budget` bytes of the device can beat, where boundaries may be sent to tiers.

    Argument: as above, and before the first backward the boundary that a stage will read again is held too, or on a tier, so
    that it has been sent by then and will be fetched after it, or must be made again, by the stage before.  That one's
    repetition may serve its own backward as well: each of the two counts half of it.  Computation and transfers go on beside
    each other: any weighted mean of the times of both is a bound, and so is the sum of each transfer's two ways.

    Args:
        costs: of the chain.
        budget: bytes of the device.
        rates: of the tiers.
    """

    def transfer(boundary: int) -> float:
        size = costs.boundary_bytes(boundary)
        return min((r.put_seconds(size) + r.get_seconds(size) for r in rates), default=float("inf"))

    bounds = [least_seconds(costs, budget)]
    for share in SHARES:
        hulls = [_hull([*_ways_with_tiers(costs, i, transfer(i), share)]) for i in range(len(costs))]
        bounds.append(_cheapest(costs, budget, hulls))
    return max(bounds)


def _ways_with_tiers(costs: ChainCosts, i: int, transfer: float, share: float) -> Iterator[tuple[int, float]]:
    """(bytes held before the first backward, weighted seconds) of the ways to treat a stage and the boundary that it reads.

    `share` is the weight of transfers, of which the boundary's two take `transfer` seconds.
    """
    stage, last = costs.stages[i], i == len(costs) - 1
    weight = 1 - share
    # The chain's input is the caller's, and there anyway.
    inputs = [(costs.boundary_bytes(i) if i else 0, 0.0)]
    if i and not last:
        inputs += [(0, share * transfer)] if transfer < float("inf") else []
        inputs.append((0, weight * _repetition(costs.stages[i - 1]) / 2))
    for k, option in enumerate(stage.options):
        for size, seconds in inputs if option.reads_input else [(0, 0.0)]:
            yield kept_bytes(stage, k) + size, weight * option.time + seconds
    if not last:
        first = min(stage.forward_time, *(option.forward_time for option in stage.options))
        backward = min(option.backward_time for option in stage.options)
        for size, seconds in inputs:
            yield size, weight * (first + _repetition(stage) / 2 + backward) + seconds


def _repetition(stage: StageCost) -> float:
    """The fewest seconds of a forward that is done again, whatever it is for."""
    return min(stage.forward_time, *(option.forward_time - option.output_time for option in stage.options))


def _cheapest(costs: ChainCosts, budget: int, hulls: Iterable[list[tuple[int, float]]]) -> float:
    """The least seconds of one way for each stage, all within the budget: the linear relaxation.

    Args:
        costs: of the chain.
        budget: bytes of the device.
        hulls: for each stage the lower convex hull of (bytes, seconds) of its ways.
    """
    start = opening(costs)
    room = float(budget - start.results - start.gradients)
    total, steps = 0.0, list[tuple[float, int]]()
    for hull in hulls:
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
