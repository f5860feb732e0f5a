"""The time of a schedule with transfers: an event simulator of one device, one way out and one way back.

Algorithm: actions are issued in order, each as soon as what has been issued and has not finished leaves room for it; it
starts when its stream is free (computation, sending, fetching) and what it reads is there.  What it drops is free when it
has finished.  That is what the staged runtime does.
Regime: any schedule; without transfers the time is the sum of its actions' times.
Does not: check the schedule (`referee`), or model that transfers and computation slow each other down.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.schedule import Backward, Fetch, Forward, Free, Offload, Schedule


@dataclass(frozen=True)
class Rates:
    """How fast values move: bytes a second each way, and seconds that each transfer takes besides."""

    put: float
    get: float
    latency: float = 0.0

    def put_seconds(self, size: int) -> float:
        """Seconds to send so many bytes."""
        return self.latency + size / self.put

    def get_seconds(self, size: int) -> float:
        """Seconds to fetch them."""
        return self.latency + size / self.get


@dataclass(frozen=True)
class Makespan:
    """Simulated seconds of a schedule, and of them those in which each stream is busy."""

    seconds: float
    computing: float
    sending: float
    fetching: float


def simulate_makespan(costs: ChainCosts, schedule: Schedule, rates: Sequence[Rates], budget: int) -> Makespan:
    """The time of a schedule whose tiers have these rates, on a device of `budget` bytes."""
    ledger = Ledger(costs)
    streams = {"compute": 0.0, "put": 0.0, "get": 0.0}
    busy = dict.fromkeys(streams, 0.0)
    there: dict[int, float] = {}
    away: dict[int, float] = {}
    keeps: dict[int, int] = {}
    finishing: list[tuple[float, int]] = []
    held, now, end = ledger.live, 0.0, 0.0
    for action in schedule:
        size = costs.boundary_bytes(action.boundary) if isinstance(action, Offload | Fetch) else 0
        sent = isinstance(action, Offload) and action.boundary in away
        change = next(ledger.changes((action,)))
        taken, given_back = change.during, change.during - change.after
        while held + taken > budget and finishing:
            finished, freed = heapq.heappop(finishing)
            now, held = max(now, finished), held - freed
        held += taken
        ready = now
        if isinstance(action, Offload):
            stream, seconds = "put", 0.0 if sent else rates[action.tier].put_seconds(size)
            ready = max(ready, there.get(action.boundary, 0.0))
        elif isinstance(action, Fetch):
            stream, seconds = "get", rates[action.tier].get_seconds(size)
            ready = max(ready, away[action.boundary])
        else:
            stream, seconds = "compute", change.seconds
            ready = max([ready, *(there.get(b, 0.0) for b in _read(costs, action, keeps))])
        start = ready if sent else max(ready, streams[stream])
        finish = start + seconds
        if not sent:
            streams[stream] = finish
        busy[stream] += seconds
        if isinstance(action, Offload):
            away[action.boundary] = max(finish, away.get(action.boundary, 0.0))
        elif isinstance(action, Fetch):
            there[action.boundary] = finish
        elif isinstance(action, Free):
            away.pop(action.boundary, None)
        elif isinstance(action, Forward) and action.output:
            there[action.stage + 1] = finish
        # What is sent may still be read by computation that was issued before.
        heapq.heappush(finishing, (max(finish, streams["compute"]) if stream == "put" else finish, given_back))
        end = max(end, finish)
    return Makespan(end, busy["compute"], busy["put"], busy["get"])


def _read(costs: ChainCosts, action: object, keeps: dict[int, int]) -> list[int]:
    if isinstance(action, Forward):
        if action.keep is not None:
            keeps[action.stage] = action.keep
        return [action.stage]
    if isinstance(action, Backward):
        option = costs.stages[action.stage].options[keeps[action.stage]]
        return [action.stage] * option.reads_input + [action.stage + 1] * option.reads_output
    return []
