"""The time of a schedule with transfers: an event simulator of one device, one way out and one way back.

Algorithm: actions are issued in order, each as soon as what has been issued and has not finished leaves room for it; it
starts when its stream is free (computation, sending, fetching) and what it reads is there.  Nothing is issued while an
action waits for what is being fetched.  What it drops is free when it has finished.  That is what the staged runtime does.
Computation beside a transfer takes longer by what the tier's rates say; which transfers it runs beside is known from the
round before, so that rounds are repeated a few times.
Regime: any schedule; without transfers the time is the sum of its actions' times.
Does not: check the schedule (`referee`).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.schedule import Backward, Fetch, Forward, Free, Offload, Schedule

# Rounds after which the delays of computation beside transfers have settled.
ROUNDS = 4


@dataclass(frozen=True)
class Rates:
    """How fast values move: bytes a second each way, and seconds that each transfer takes besides.

    Attributes:
        put, get: bytes a second, beside computation.
        latency: seconds.
        beside_put, beside_get: times as long that computation takes beside a transfer.
        source: where they come from, in words.
    """

    put: float
    get: float
    latency: float = 0.0
    beside_put: float = 1.0
    beside_get: float = 1.0
    source: str = ""

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
    rounds = ROUNDS if any(rate.beside_put > 1 or rate.beside_get > 1 for rate in rates) else 0
    found, intervals = _simulated(costs, schedule, rates, budget, {})
    for _ in range(rounds):
        found, intervals = _simulated(costs, schedule, rates, budget, _delays(intervals, rates))
    return found


class _Interval(NamedTuple):
    """When an action runs, in which stream and, of a transfer, by which tier."""

    start: float
    finish: float
    stream: str
    tier: int


def _delays(intervals: Sequence[_Interval], rates: Sequence[Rates]) -> dict[int, float]:
    """By how many seconds each action that computes takes longer for the transfers beside it."""
    delays: dict[int, float] = {}
    for stream in ("put", "get"):
        moves = [move for move in intervals if move.stream == stream]
        starts = [move.start for move in moves]
        for index, run in enumerate(intervals):
            if run.stream != "compute" or run.finish == run.start:
                continue
            # One stream's transfers come one after the other.
            for move in moves[max(0, bisect_right(starts, run.start) - 1) : bisect_left(starts, run.finish)]:
                beside = rates[move.tier].beside_put if stream == "put" else rates[move.tier].beside_get
                together = max(0.0, min(run.finish, move.finish) - max(run.start, move.start))
                delays[index] = delays.get(index, 0.0) + together * (1 - 1 / beside)
    return delays


def _simulated(
    costs: ChainCosts, schedule: Schedule, rates: Sequence[Rates], budget: int, delays: Mapping[int, float]
) -> tuple[Makespan, list[_Interval]]:
    ledger = Ledger(costs)
    streams = {"compute": 0.0, "put": 0.0, "get": 0.0}
    busy = dict.fromkeys(streams, 0.0)
    there: dict[int, float] = {}
    away: dict[int, float] = {}
    fetching: dict[int, float] = {}
    keeps: dict[int, int] = {}
    finishing: list[tuple[float, int]] = []
    intervals: list[_Interval] = []
    held, now, end = ledger.live, 0.0, 0.0
    for index, action in enumerate(schedule):
        moves = isinstance(action, Offload | Fetch)
        size = costs.boundary_bytes(action.boundary) if moves else 0
        sent = isinstance(action, Offload) and action.boundary in away
        change = next(ledger.changes((action,)))
        # What is freed is given back once those that read it are done.
        taken = 0 if isinstance(action, Free) else change.during
        given_back = taken - change.after
        while held + taken > budget and finishing:
            finished, freed = heapq.heappop(finishing)
            now, held = max(now, finished), held - freed
        held += taken
        read = [action.boundary] if isinstance(action, Offload) else _read(costs, action, keeps)
        # What is being fetched is waited for before an action is issued; what is computed is not.
        now = max([now, *(fetching.pop(b, 0.0) for b in read)])
        ready = max([now, *(there.get(b, 0.0) for b in read)])
        if isinstance(action, Offload):
            stream, seconds = "put", 0.0 if sent else rates[action.tier].put_seconds(size)
        elif isinstance(action, Fetch):
            stream, seconds = "get", rates[action.tier].get_seconds(size)
            ready = max(ready, away[action.boundary])
        else:
            stream, seconds = "compute", change.seconds + delays.get(index, 0.0)
        start = ready if sent else max(ready, streams[stream])
        finish = start + seconds
        if not sent:
            streams[stream] = finish
        busy[stream] += seconds
        intervals.append(_Interval(start, finish, stream, action.tier if moves else 0))
        if isinstance(action, Offload):
            away[action.boundary] = max(finish, away.get(action.boundary, 0.0))
        elif isinstance(action, Fetch):
            there[action.boundary] = fetching[action.boundary] = finish
        elif isinstance(action, Free):
            away.pop(action.boundary, None)
        elif isinstance(action, Forward) and action.output:
            there[action.stage + 1] = finish
        # What is sent may still be read by computation that was issued before.
        heapq.heappush(finishing, (max(finish, streams["compute"]) if stream == "put" else finish, given_back))
        end = max(end, finish)
    return Makespan(end, busy["compute"], busy["put"], busy["get"]), intervals


def _read(costs: ChainCosts, action: object, keeps: dict[int, int]) -> list[int]:
    if isinstance(action, Forward):
        if action.keep is not None:
            keeps[action.stage] = action.keep
        return [action.stage]
    if isinstance(action, Backward):
        option = costs.stages[action.stage].options[keeps[action.stage]]
        return [action.stage] * option.reads_input + [action.stage + 1] * option.reads_output
    return []
