"""Long chains without a table: binomial checkpointing of groups of stages whose residuals are all kept.

Algorithm: Revolve (Griewank and Walther 2000) over groups of m stages and a last group as large as fits; inside a group
nothing runs twice.  The sizes, the number of checkpoints and the save option are chosen by its closed form: a chain of
l groups takes t(l, c) group forwards beyond the first with c checkpoints.  m = 1 is Revolve, a last group of all stages
is storing all, c = l is every-m.
Regime: equal stages, to 10^5 and more: one evaluation per candidate, then one schedule is written.
Does not: prove optimality (the mixed problem of Maddison 2024 has no closed form), or weigh uneven stages one by one:
the largest of them decides what fits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from ckptgrad.binomial import advance, extra_forwards
from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import backward_change, forward_change, kept_bytes
from ckptgrad.planning.nested import Decision, Keep, Segment, Split, write_nested
from ckptgrad.planning.writer import ScheduleWriter

# Schedules written at most before giving up on a budget.
ATTEMPTS = 12


class Groups(NamedTuple):
    """Groups of `size` stages and a last one of `tail` stages, with `checkpoints` held, the chain's input among them."""

    checkpoints: int
    size: int
    tail: int


def grouped(costs: ChainCosts, groups: Groups, options: list[int]) -> ScheduleWriter:
    """Write the schedule of these groups, keeping these save options."""
    n = len(costs)
    starts = [*range(0, n - groups.tail, groups.size), n - groups.tail, n]
    number = {start: k for k, start in enumerate(starts)}

    def decide(segment: Segment) -> Decision:
        first, last, _, free = segment
        begin = number.get(first)
        if begin is None or number[last + 1] - begin == 1:
            return Keep(options[first], rest=free)
        ahead = advance(number[last + 1] - begin, free)
        return Split(starts[begin + ahead], right=free - 1, left=free)

    return write_nested(costs, decide, max(1, min(groups.checkpoints, len(starts) - 1)))


def best_groups(costs: ChainCosts, budget: int) -> ScheduleWriter:
    """The fastest such schedule that fits.

    Raises:
        BudgetError: none of those tried fits.
    """
    smallest: ScheduleWriter | None = None
    for _, groups, price in heapq.nsmallest(ATTEMPTS, _candidates(costs, budget)):
        writer = grouped(costs, groups, _options(costs, price))
        if writer.fits(budget):
            return writer
        if smallest is None or writer.peak < smallest.peak:
            smallest = writer
    if smallest is None:
        smallest = smallest_groups(costs)
        if smallest.fits(budget):
            return smallest
    raise BudgetError(budget, smallest.peak, smallest.peak_stage, "optimal")


def smallest_groups(costs: ChainCosts) -> ScheduleWriter:
    """A schedule of small peak with a number of forwards per stage that grows as the logarithm of the chain's length."""
    return grouped(costs, Groups(1 + len(costs).bit_length(), 1, 1), _options(costs, 1.0))


def _options(costs: ChainCosts, price: float) -> list[int]:
    """For each stage the option with the least of time and bytes, `price` from 0 (time alone) to 1 (bytes alone)."""
    known: dict[int, int] = {}
    for stage in costs.stages:
        if id(stage) not in known:
            slowest = max(o.time for o in stage.options) or 1.0
            sizes = [kept_bytes(stage, k) + backward_change(stage, k, 0).during for k in range(len(stage.options))]
            largest = max(sizes) or 1
            weighed = [
                (1 - price) * o.time / slowest + price * size / largest for o, size in zip(stage.options, sizes, strict=True)
            ]
            known[id(stage)] = weighed.index(min(weighed))
    return [known[id(stage)] for stage in costs.stages]


def _candidates(costs: ChainCosts, budget: int) -> Iterator[tuple[float, Groups, float]]:
    """(seconds, groups, price of bytes) of what should fit, by the largest stage.

    Only the order in which candidates are tried depends on these bytes: whether one fits is read off its schedule.
    """
    n = len(costs)
    boundary = max(1, *(costs.boundary_bytes(i) for i in range(n + 1)))
    cotangent = max(costs.cotangent_bytes(i) for i in range(n + 1))
    distinct = {id(stage): stage for stage in costs.stages}.values()
    forward_transient = max(forward_change(s).transients for s in distinct)
    forward = sum(s.forward_time for s in costs.stages) / n
    for price in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        options = _options(costs, price)
        chosen = [s.options[k] for s, k in zip(costs.stages, options, strict=True)]
        kinds = {id(s.options[k]): (s, k) for s, k in zip(costs.stages, options, strict=True)}.values()
        between = max(1, *(_between(s, k, boundary) for s, k in kinds))
        inside = max(
            max(forward_change(s, k, output=False).transients, backward_change(s, k, cotangent).during) for s, k in kinds
        )
        room = budget - costs.held_bytes - cotangent - 2 * boundary - max(inside, forward_transient)
        time = sum(o.time for o in chosen)
        for size in _steps(n):
            most = (room - size * between) // boundary
            for checkpoints in _steps(min(most, ceil(n / size))):
                tail = min(n, (room - checkpoints * boundary) // between)
                count = 1 + ceil((n - tail) / size)
                if tail >= size:
                    extra = forward * size * extra_forwards(count, min(checkpoints, count)) if count > 1 else 0.0
                    yield time + extra, Groups(min(checkpoints, count), size, tail), price


def _between(stage: StageCost, keep: int, boundary: int) -> int:
    """Bytes that wait for the backward of a stage, boundaries taken to be of `boundary` bytes."""
    option = stage.options[keep]
    return kept_bytes(stage, keep) + boundary * (option.reads_input or option.reads_output)


def _steps(most: int) -> Iterator[int]:
    """1, 2, ... up to `most`, an eighth further each time, and `most`."""
    k = 1
    while k < most:
        yield k
        k = max(k + 1, k * 9 // 8)
    if most > 0:
        yield most
