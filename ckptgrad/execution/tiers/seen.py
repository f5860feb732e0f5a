"""What gradients saw of their tiers: how long each transfer took, and how much longer computation beside it.

Kept for each tier and device as long as the process lives, the last few hundred of each, so that a plan made after a call
knows more than what was measured when the tier was first opened.  Medians, so that a transfer which something else on the
machine held up does not count.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

from ckptgrad.execution.tiers.tier import Tier
from ckptgrad.planning.makespan import Rates

# What is kept of each way, and from how many on that is used.
LAST, ENOUGH = 256, 4
# Pairs of equal programs that tell how much longer they take, from which on that is used.
ENOUGH_PAIRS = 8
# Of two equal programs, by which share of their time more one runs beside transfers, and the other way's by no more than.
BESIDE, ALIKE = 0.1, 0.05
# No transfer is taken to stop more of the computation beside it.
MOST_LOST = 0.9


class Span(NamedTuple):
    """When something ran, in seconds of one clock."""

    start: float
    finish: float


class Ran(NamedTuple):
    """One run of a program: which, and when."""

    program: Hashable
    span: Span


@dataclass
class Seen:
    """Of one tier and device: (bytes, seconds) of transfers each way, seconds of forgetting a value, and the share of a
    second of computation that a second of a transfer beside it costs."""

    put: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    get: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    drop: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    lost_put: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))
    lost_get: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))

    def rates(self, opening: Rates) -> Rates:
        """The rates that are known now; what was not seen often enough is as it was measured at opening."""
        found = opening
        if min(len(self.put), len(self.get)) >= ENOUGH:
            # The thread that fetches is also the one that forgets.
            forgetting = _per_byte(self.drop, 0.0) if self.drop else 0.0
            put = 1 / _per_byte(self.put, opening.latency)
            get = 1 / (_per_byte(self.get, opening.latency) + forgetting)
            source = f"seen in {len(self.put) + len(self.get)} transfers"
            found = replace(opening, put=put, get=get, source=source)
        if len(self.lost_put) >= ENOUGH_PAIRS:
            found = replace(found, beside_put=_times(self.lost_put))
        if len(self.lost_get) >= ENOUGH_PAIRS:
            found = replace(found, beside_get=_times(self.lost_get))
        return found

    def note_programs(self, ran: Sequence[Ran], put: Sequence[Span], get: Sequence[Span]) -> None:
        """Note how much longer programs of one call took beside its transfers than equal ones beside fewer."""
        by_program: dict[Hashable, list[tuple[float, float, float]]] = {}
        for program, span in ran:
            by_program.setdefault(program, []).append((span.finish - span.start, _beside(span, put), _beside(span, get)))
        for runs in by_program.values():
            self.lost_put.extend(_lost(runs))
            self.lost_get.extend(_lost([(seconds, fetching, sending) for seconds, sending, fetching in runs]))


def seen(tier: Tier, device: Any) -> Seen:
    """What was seen of a tier, whatever its capacity, by gradients of a device."""
    return _seen(tier.kind, tier.place, device)


@cache
def _seen(kind: str, place: str, device: Any) -> Seen:
    return Seen()


def _per_byte(moved: Collection[tuple[int, float]], latency: float) -> float:
    """Median seconds a byte; of the larger values, where they differ, as they take most of the time."""
    # A copy: other threads' gradients go on noting theirs.
    pairs = [(size, seconds) for size, seconds in [*moved] if size]
    middle = statistics.median(size for size, _ in pairs) if pairs else 0
    # What takes hardly more than the latency says nothing about bytes.
    each = [max(seconds - latency, seconds / 2) / size for size, seconds in pairs if size >= middle]
    return max(statistics.median(each), 1e-15) if each else 1e-15


def _times(lost: Collection[float]) -> float:
    return 1 / (1 - min(max(statistics.median([*lost]), 0.0), MOST_LOST))


def _beside(span: Span, transfers: Sequence[Span]) -> float:
    """Seconds of a span in which a transfer was under way; they come one after the other."""
    return sum(max(0.0, min(span.finish, t.finish) - max(span.start, t.start)) for t in transfers)


def _lost(runs: Sequence[tuple[float, float, float]]) -> list[float]:
    """Seconds lost for each second beside transfers, from pairs of runs of a program.

    The pairs are those of the incomplete method of Theil: sorted by seconds beside transfers, each of the lower half with
    its counterpart in the upper half.

    Args:
        runs: seconds, of them beside transfers one way, and beside transfers the other way.
    """
    ordered = sorted(runs, key=lambda run: run[1])
    half = (len(ordered) + 1) // 2
    found: list[float] = []
    for (less, beside, other), (more, far_beside, far_other) in zip(ordered, ordered[half:], strict=False):
        seconds = min(less, more)
        if far_beside - beside > BESIDE * seconds and abs(far_other - other) < ALIKE * seconds:
            found.append((more - less) / (far_beside - beside))
    return found
