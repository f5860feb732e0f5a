"""The whole curve of seconds against peak bytes of a chain, and where the policies stand beside it.

Algorithm: one solve of the optimal policy's recurrences gives the least seconds for every number of bytes; the budgets
at which they change are the points.  Bytes are exact where the curves are affordable, else those of a table of slots; a
chain beyond a table gets the points of `grouped` at a few budgets between the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ckptgrad.bytes import as_budget
from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.nested import keep_fastest, write_nested
from ckptgrad.planning.optimal import exhaustive_search
from ckptgrad.planning.optimal.dynamic_programming import Optimum, optimum_of, smallest_schedule
from ckptgrad.planning.optimal.exact_curves import Curve
from ckptgrad.planning.optimal.grouped import best_groups
from ckptgrad.planning.policies.every_k import segments_of_k
from ckptgrad.planning.policies.revolve import with_checkpoints
from ckptgrad.planning.policy import Policy, get_policy
from ckptgrad.planning.writer import ScheduleWriter

# Budgets tried for a chain beyond a table, both ends counted.
LONG_POINTS = 16


@dataclass(frozen=True, slots=True)
class Point:
    """Peak bytes, `held_bytes` included, and seconds of one schedule; `policy` wrote it."""

    peak_bytes: int
    seconds: float
    policy: str = "optimal"


def frontier_points(costs: ChainCosts) -> list[Point]:
    """The points at which more bytes buy less time, from the smallest peak to that of the fastest schedule."""
    fastest, smallest = _fastest(costs), _point(smallest_schedule(costs))
    return _lowest([fastest, smallest, *_between(costs, smallest.peak_bytes, fastest.peak_bytes)])


def points_of_all(
    several: Iterable[tuple[ChainCosts, float]],
    points_of: Callable[[ChainCosts], Sequence[Point]] = frontier_points,
) -> list[Point]:
    """The points of one call that may be cut into several chains, each with seconds that its plans take at least."""
    found = [(point, floor) for costs, floor in several for point in points_of(costs)]
    return _lowest([replace(point, seconds=max(point.seconds, floor)) for point, floor in found])


@lru_cache(maxsize=3)  # the ways to cut a call
def quick_points(costs: ChainCosts) -> Sequence[Point]:
    """The points of nested schedules, in at most about the time of one plan; none for a chain beyond a table."""
    optimum = optimum_of(costs)
    if optimum.is_long:
        return []
    fastest = _fastest(costs)
    return _lowest([fastest, *_nested(optimum, fastest.peak_bytes, optimum.curve if optimum.is_quick else None)])


def _between(costs: ChainCosts, least: int, most: int) -> Iterator[Point]:
    optimum = optimum_of(costs)
    if optimum.is_long:
        for budget in np.geomspace(least, most, LONG_POINTS)[1:-1]:
            yield _point(best_groups(costs, int(budget)))
        return
    searchable = exhaustive_search.searchable(costs)
    for point in _nested(optimum, most, optimum.curve):
        faster_than = point.seconds * (1 - 1e-9)
        writer = exhaustive_search.search(costs, point.peak_bytes, faster_than=faster_than) if searchable else None
        yield _point(writer) if writer else point


def _nested(optimum: Optimum, most: int, curve: Curve | None) -> Iterator[Point]:
    """The best nested schedules: the points of an exact curve, or of a table of slots of up to `most` bytes."""
    if curve is not None:
        budgets, seconds = curve
    else:
        slot, slots = optimum.slots(most)
        seconds = optimum.times(slot, slots)[int(optimum.row(0, len(optimum.costs) - 1, True))]
        budgets = np.arange(slots + 1) * slot + optimum.costs.held_bytes
        yield _point(optimum.write(optimum.least_bytes, fast=False))
    for budget, time in zip(budgets.tolist(), seconds.tolist(), strict=True):
        if np.isfinite(time):
            yield Point(int(budget), time)


def policy_points(costs: ChainCosts) -> list[Point]:
    """Where the policies of the literature stand, each planning without a budget."""
    points: list[Point] = []
    for name in ("store_all", "sqrt", "recompute_all"):
        writer = ScheduleWriter(costs)
        writer.replay(get_policy(name)(costs, None))
        points.append(Point(writer.peak, writer.time, name))
    n = len(costs)
    counts = sorted({2, 3, 4, 6, 8, 12, 16, 24, 32} & set(range(1, n)))
    points += [_point(with_checkpoints(costs, c), f"revolve, {c} checkpoints") for c in counts]
    return points + [_point(segments_of_k(costs, k), f"every {k}") for k in counts]


def points_within(name: str, policy: Policy, costs: ChainCosts) -> list[Point]:
    """The plans of a policy at a few budgets, from the smallest peak there is to the fastest plan's: those that differ."""
    least, most = smallest_schedule(costs).peak, _fastest(costs).peak_bytes
    found: dict[tuple[int, float], Point] = {}
    for budget in [*np.geomspace(least, max(least, most), LONG_POINTS).astype(int).tolist(), None]:
        writer = ScheduleWriter(costs)
        with suppress(BudgetError, ScheduleError):
            writer.replay(policy(costs, budget))
            within = "" if budget is None else f" within {as_budget(budget)[0]}"
            found.setdefault((writer.peak, writer.time), _point(writer, name + within))
    return [*found.values()]


def _fastest(costs: ChainCosts) -> Point:
    return _point(write_nested(costs, keep_fastest(costs)))


def _point(writer: ScheduleWriter, policy: str = "optimal") -> Point:
    return Point(writer.peak, writer.time, policy)


def _lowest(points: list[Point]) -> list[Point]:
    """The points that no other one beats, by ascending bytes."""
    lowest: list[Point] = []
    for point in sorted(points, key=lambda p: (p.peak_bytes, p.seconds)):
        if not lowest or point.seconds < lowest[-1].seconds * (1 - 1e-12):
            lowest.append(point)
    return lowest
