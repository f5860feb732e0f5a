"""Optimal: the fastest nested schedule within the budget, over splits and save options alike.

Algorithm: `planning/optimal/dynamic_programming.py`, where the recurrences, the aliases and the regime stand.
Claim: optimal among nested freeable-input schedules under the additive cost model, bytes rounded up. Where
bytes were rounded, other policies are tried too, and the fastest schedule that fits is returned. For short chains all
schedules are searched, nested or not (`planning/optimal/exhaustive_search.py`). Chains too long for a table, or for one
whose slots are smaller than what a stage stores, get binomial checkpointing of groups (`planning/optimal/grouped.py`), for
which nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import isqrt

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.nested import keep_fastest, keep_lean, write_nested
from ckptgrad.planning.optimal import exhaustive_search
from ckptgrad.planning.optimal.dynamic_programming import optimum_of, smallest_schedule
from ckptgrad.planning.optimal.grouped import best_groups
from ckptgrad.planning.policies.every_k import segments_of_k
from ckptgrad.planning.policies.revolve import most_checkpoints
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.planning.writer import ScheduleWriter


@policy(
    "optimal",
    references=(
        "Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova 2019, hal-02352969",
        "Maddison 2024, On the implementation of checkpointing with high-level algorithmic differentiation",
    ),
)
def optimal(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """The fastest schedule whose peak is within `budget` bytes; without one, each stage keeps the smallest of its options
    that are about as fast as its fastest.
    """
    if budget is None:
        return write_nested(costs, keep_lean(costs)).finish("optimal")
    everything = write_nested(costs, keep_fastest(costs))
    if everything.fits(budget):
        return everything.finish("optimal", budget)
    optimum = optimum_of(costs)
    if optimum.is_long:
        return best_groups(costs, budget).finish("optimal", budget)
    if budget < optimum.least_bytes:
        writer = smallest_schedule(costs)
        if not writer.fits(budget):
            raise BudgetError(budget, writer.peak, writer.peak_stage, "optimal")
    elif optimum.is_slow and not optimum.is_exact(budget) and (groups := _groups_within(costs, budget)):
        return groups.finish("optimal", budget)
    else:
        writer = optimum.write(budget)
        if not optimum.is_exact(budget):
            writer = min([writer, *_rivals(costs, budget)], key=lambda rival: rival.time)
    if exhaustive_search.searchable(costs):
        writer = exhaustive_search.search(costs, budget, faster_than=writer.time * (1 - 1e-9)) or writer
    return writer.finish("optimal", budget)


def _groups_within(costs: ChainCosts, budget: int) -> ScheduleWriter | None:
    """The fastest schedule of groups; None where a table alone may find one that fits."""
    with suppress(BudgetError):
        return best_groups(costs, budget)
    return None


def _rivals(costs: ChainCosts, budget: int) -> Iterator[ScheduleWriter]:
    for k in {1, isqrt(len(costs) - 1) + 1, (len(costs) + 1) // 2}:
        writer = segments_of_k(costs, k)
        if writer.fits(budget):
            yield writer
    with suppress(BudgetError):
        yield most_checkpoints(costs, budget)
