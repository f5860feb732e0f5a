"""Sending boundaries to slower storage instead of running stages again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptgrad.bytes import as_budget
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.makespan import Rates
from ckptgrad.planning.optimal.dynamic_programming import optimum_of
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.schedule import Fetch, Free, Offload, Schedule
from ckptgrad.planning.transfers import Room, sent_at
from ckptgrad.results.advice.advice import Sentence, adviser

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# More than any chain holds; how fast it is decides nothing here.
_ENDLESS = Room(2**60, Rates(1.0, 1.0))


@adviser(order=7)
def advise(plan: Plan) -> Iterator[Sentence]:
    """`runtime="staged"` with a tier: how many fewer forwards the budget takes then, and how many bytes are sent at most.

    The tier is the host's memory, or a disk where that is what the program runs in. Nothing for what is not attached, lies
    on several devices, or repeats nothing, and for chains that take long to plan.
    """
    target, costs = plan.program.target, plan.costs
    repeats = plan.simulation.recomputations
    if plan.budget is None or plan.makespan is not None or not repeats or not target.attached or plan.program.devices > 1:
        return
    if optimum_of(costs).is_long or not optimum_of(costs).is_quick:  # it would take as long as a plan
        return
    sent = next(sent_at(costs, plan.budget, [_ENDLESS], get_policy("optimal")), None)
    if sent is None or sent.recomputations >= repeats:
        return
    text, size = as_budget(most_away(costs, sent))
    tier = f"disk:PATH:{text}" if target.platform.host_memory else f"host:{text}"
    yield (
        f"runtime='staged' with tiers=['{tier}'] can keep this budget with {sent.recomputations} forwards repeated instead "
        f"of {repeats}, by sending boundaries there, if that is fast enough",
        {"tier": tier, "bytes": size, "repeated": sent.recomputations, "instead_of": repeats},
    )


def most_away(costs: ChainCosts, schedule: Schedule) -> int:
    """The most bytes that tiers hold at once."""
    away: set[int] = set()
    most = 0
    for action in schedule:
        if isinstance(action, Offload):
            away.add(action.boundary)
        elif isinstance(action, (Fetch, Free)):
            away.discard(action.boundary)
        most = max(most, sum(map(costs.boundary_bytes, away)))
    return most
