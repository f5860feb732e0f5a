"""Whether another policy is as good as the one that made the plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ckptgrad.errors import CkptgradError
from ckptgrad.planning.optimal.dynamic_programming import optimum_of
from ckptgrad.planning.policy import registered
from ckptgrad.planning.referee import simulate
from ckptgrad.results.advice.advice import Sentence, adviser

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# Estimated times that differ by less than this share are taken as equal.
AS_GOOD = 0.01
# Policies that come with the package; those of users may take long, or do something else besides planning.
_OURS = "ckptgrad.planning.policies."


@adviser(order=8)
def advise(plan: Plan) -> Iterator[Sentence]:
    """Of the other policies the best within the plan's bytes: as good, better, or by how much slower."""
    costs, own = plan.costs, plan.schedule.policy
    alone = plan.makespan is None and plan.microbatches is None
    if not plan.fenced or not alone or plan.seconds <= 0 or len(costs) < 2:
        return
    if optimum_of(costs).is_long or not optimum_of(costs).is_quick:  # several of them take as long as a plan each
        return
    limit = plan.peak_bytes if plan.budget is None else plan.budget
    times: dict[str, float] = {}
    for name, policy in registered().items():
        if name != own and policy.run.__module__.startswith(_OURS):
            with suppress(CkptgradError):
                times[name] = max(simulate(policy.run(costs, limit), costs).time, plan.floor_seconds) / plan.seconds
    figures = {"times": times, "limit_bytes": limit}
    if not times:
        yield "no other policy fits into as many bytes", figures
        return
    best = min(times, key=lambda name: (round(times[name], 6), name != "optimal", name))
    as_good = [name for name, ratio in times.items() if abs(ratio - 1) <= AS_GOOD]
    if times[best] < 1 - AS_GOOD:
        yield f"policy {best!r} takes {1 - times[best]:.0%} less time within as many bytes", figures
    elif as_good:
        which = " and ".join(map(repr, as_good)) if len(as_good) < 3 else ", ".join(map(repr, as_good))
        yield f"as good within as many bytes: {'policy' if len(as_good) == 1 else 'policies'} {which}", figures
    else:
        yield f"no other policy is as good: the next best, {best!r}, takes {times[best] - 1:.0%} more time", figures
