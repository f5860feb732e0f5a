"""Optimal nested schedules with freeable inputs and several save options per stage, within a budget of bytes.

Algorithm: two-table dynamic programming over segments and memory (`recurrences`), then a walk from the whole chain
down that takes every decision anew with exact bytes. Values only are tabulated; the walk uses a stack of its
own.
Aliases: Rotor's persistent dynamic programme (Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova 2019) with
inputs that are freed early; on equal stages of unit sizes the mixed checkpointing of Maddison (2024).
Claim: optimal among nested freeable-input schedules under the additive cost model, bytes rounded up to slots.
Nothing is rounded for chains of few different stages (`exact_curves`), or where a common divisor of all sizes
leaves few slots. Feasibility is never rounded: a byte-exact table of least peaks decides it, and its schedules
bound the others.
Regime: up to a few hundred different stages, or a few thousand equal ones.
Does not: look at schedules that are not nested, which may be faster or smaller. Three kinds are known:
a stage's residuals kept while the input that its backward reads is dropped and computed again; a checkpoint
dropped for a hungry stage and computed again; a forward moved before a backward because its residuals are smaller
than a cotangent. Does not offload, or plan chains beyond a table's reach: `LongChain` is raised, and policy
`optimal` turns to `grouped`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ckptgrad.errors import CkptgradError
from ckptgrad.once import once
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import sweep_bytes
from ckptgrad.planning.nested import Decision, Keep, Segment, Split, keep_fastest, write_nested
from ckptgrad.planning.optimal import exhaustive_search, recurrences
from ckptgrad.planning.optimal.exact_curves import Curve, fill_curves
from ckptgrad.planning.optimal.grouped import smallest_groups
from ckptgrad.planning.optimal.numba_kernels import Kernels, compiled_kernels
from ckptgrad.planning.optimal.segments import Segments, segments_of
from ckptgrad.planning.writer import ScheduleWriter

# Slots of a table: as many as WORK visits of a split at a slot allow, and TABLE_BYTES.
FEWEST_SLOTS, MOST_SLOTS = 500, 2048
WORK = 4e8
TABLE_BYTES = 1 << 30
# Visits of a split at a slot that take many seconds: with so many even the fewest slots are too coarse to be worth it.
SLOW_WORK = 4e9
# Up to this many splits the recurrences run interpreted: loading their compiled form takes longer.
INTERPRETED_SPLITS = 10_000
# Chains of at most this many stages are searched for their smallest peak, visiting at most this many states.
SMALLEST_STAGES, SMALLEST_LIMIT = 7, 30_000
# Chains beyond either are too long for a table.
MOST_STAGES, MOST_SPLITS = 4000, 4e8
# Additions of two curves: in a plan at once, and for a frontier.
QUICK_MERGES, MOST_MERGES = 4000, 400_000


class LongChain(CkptgradError):
    """The chain has too many different segments for a table."""


@dataclass(frozen=True)
class Optimum:
    """The tables of one chain. `least_bytes` is its smallest peak, `held_bytes` included."""

    costs: ChainCosts

    @once
    def segments(self) -> Segments:
        """The chain's segments by class; LongChain if they are too many."""
        n = len(self.costs)
        segments = segments_of(self.costs) if n <= MOST_STAGES else None
        if segments is None or (segments.classes.length - 1).sum() > MOST_SPLITS:
            raise LongChain(
                f"{n} stages have too many different segments for a table; "
                "use policy 'optimal', which then plans without one, 'revolve' or 'every_k', or merge stages"
            )
        return segments

    @property
    def is_long(self) -> bool:
        """Whether the chain is beyond a table's reach."""
        try:
            return not self.segments
        except LongChain:
            return True

    @property
    def is_slow(self) -> bool:
        """Whether a table takes many seconds, while one of its slots is larger than what a stage stores."""
        return 2 * self.splits * FEWEST_SLOTS > SLOW_WORK

    @once
    def splits(self) -> int:
        """How many splits of classes of segments the recurrences visit."""
        return int((self.segments.classes.length - 1).sum())

    @once
    def rows(self) -> int:
        """The number of rows."""
        return 2 * len(self.segments.classes.first)

    @once
    def least(self) -> tuple[np.ndarray, np.ndarray]:
        """Each row's least bytes, and the seconds of one schedule within them."""
        kinds, classes = self.segments.kinds, self.segments.classes
        least, seconds = np.zeros(self.rows, np.int64), np.zeros(self.rows)
        heads = np.zeros(len(self.costs) + 1, np.int64)
        if self._kernels is not None:
            self._kernels.fill_least(kinds.as_arrays(), classes, heads, least, seconds)
            return least, seconds
        lists = least.tolist(), seconds.tolist()
        recurrences.fill_least(kinds, classes.as_lists(), heads.tolist(), *lists)
        return np.array(lists[0]), np.array(lists[1])

    @property
    def least_bytes(self) -> int:
        """Bytes of the smallest peak of the whole chain."""
        return int(self.least[0][self.row(0, len(self.costs) - 1, True)]) + self.costs.held_bytes

    def slots(self, budget: int) -> tuple[int, int]:
        """Bytes of a slot, and how many slots `budget` bytes make; exact where a common divisor allows."""
        room = budget - self.costs.held_bytes
        count = min(max(WORK / max(2 * self.splits, 1), FEWEST_SLOTS), MOST_SLOTS)
        count = max(1, int(min(count, TABLE_BYTES / (4 * self.rows))))
        divisor = self.segments.divisor
        if room // divisor <= 2 * count:
            return divisor, room // divisor
        slot = max(1, room // count)
        return slot, room // slot

    def is_exact(self, budget: int) -> bool:
        """Whether no bytes are rounded within `budget` bytes, those of the chain's end excepted."""
        return (self.is_quick and self.curves is not None) or self.slots(budget)[0] == self.segments.divisor

    def times(self, slot: int, slots: int) -> np.ndarray:
        """The seconds of each row for 0 to `slots` slots of `slot` bytes."""
        kinds, classes = self.segments.kinds, self.segments.classes
        values = np.full((self.rows, slots + 1), np.inf, np.float64 if self._kernels is None else np.float32)
        nothing, pending = np.zeros(slots + 1, values.dtype), np.full(slots + 1, np.inf, values.dtype)
        least, seconds = -(-self.least[0] // slot), self.least[1]
        full, heads = np.zeros(self.rows, np.int64), np.zeros(len(self.costs) + 1, np.int64)
        if self._kernels is not None:
            table = recurrences.Table(slot, values, full, least, seconds, pending, nothing, heads)
            self._kernels.fill_times(kinds.as_arrays(), classes, table)
            return values
        lists = full.tolist(), least.tolist(), seconds.tolist()
        table = recurrences.Table(slot, values, *lists, pending, nothing, heads.tolist())
        recurrences.fill_times(kinds, classes.as_lists(), table)
        return values

    @once
    def curves(self) -> list[Curve] | None:
        """Each row's whole curve of seconds against exact bytes, or None if that is too much work."""
        if 2 * self.splits > MOST_MERGES:
            return None
        everything = write_nested(self.costs, keep_fastest(self.costs))
        return fill_curves(self.segments.kinds, self.segments.classes.as_lists(), everything.peak)

    @property
    def curve(self) -> Curve | None:
        """The whole chain's curve, `held_bytes` included: the budgets at which the best nested schedule changes."""
        if self.curves is None:
            return None
        whole = self.curves[int(self.row(0, len(self.costs) - 1, True))]
        return Curve(whole.bytes + self.costs.held_bytes, whole.seconds)

    @property
    def is_quick(self) -> bool:
        """Whether the curves are there already, or take a few tenths of a second at most."""
        return 2 * self.splits <= QUICK_MERGES or "curves" in self.__dict__

    def write(self, budget: int, *, fast: bool = True) -> ScheduleWriter:
        """A schedule within `budget` bytes, at least `least_bytes`: the fastest, or else any that fits."""
        curves = self.curves if fast and self.is_quick else None
        slot, slots = self.slots(budget) if fast and curves is None else (1, 0)
        values = self.times(slot, slots) if slots else None
        walk = _Walk(self, values, slot, curves)
        return write_nested(self.costs, walk.decide, budget - self.costs.held_bytes)

    def row(self, first: Any, last: Any, owned: bool) -> Any:
        """The row of a segment, or the rows of several when `first` or `last` are arrays."""
        classes = len(self.segments.classes.first)
        return int(owned) * classes + self.segments.matrix[first, last]

    @once
    def _kernels(self) -> Kernels | None:
        """The compiled recurrences, for chains large enough to repay loading them; None for others, and without numba."""
        return compiled_kernels() if self.splits > INTERPRETED_SPLITS else None


class _Walk:
    """Decides one schedule, in exact bytes. A segment's state is the bytes left for it."""

    def __init__(self, optimum: Optimum, values: np.ndarray | None, slot: int, curves: list[Curve] | None) -> None:
        costs = optimum.costs
        self.costs, self.optimum, self.values, self.slot, self.curves = costs, optimum, values, slot, curves
        self.least, self.seconds = optimum.least
        boundaries = np.array([costs.boundary_bytes(i) for i in range(len(costs) + 1)])
        self.boundaries = boundaries
        self.sweeps = np.array(sweep_bytes(costs))
        self.kinds = optimum.segments.kinds
        self.kind_of = optimum.segments.kind_of
        self.swept = np.concatenate([[0.0], np.cumsum([stage.forward_time for stage in costs.stages])])

    def decide(self, segment: Segment) -> Decision:
        """The fastest decision for a segment; some decision always fits."""
        first, last, owned, room = segment
        seconds, decision = self._best_keep(first, last, owned, room)
        if first < last:
            split_seconds, split = self._best_split(first, last, owned, room)
            if split_seconds < seconds:
                return split
        return decision

    def _best_keep(self, first: int, last: int, owned: bool, room: int) -> tuple[float, Decision]:
        costs, kinds, kind = self.costs, self.kinds, self.kind_of[first]
        result = int(self.boundaries[-1]) if last == len(costs) - 1 else 0
        cotangent, alone = costs.cotangent_bytes(last + 1), first == last
        best = float("inf"), Keep(0)
        for k, column in enumerate(range(kinds.option_start[kind], kinds.option_start[kind + 1])):
            needs = recurrences.option_needs(kinds, column, kind, cotangent, result, int(owned), alone)
            forward, between, backward = needs
            if max(forward, backward) > room:
                continue
            seconds, left = (kinds.option_alone_time if alone else kinds.option_time)[column], room - between
            if not alone:
                row = self.optimum.row(first + 1, last, not kinds.option_reads_output[column])
                seconds += float(self._look_up(np.array([row]), left)[0])
            if seconds < best[0]:
                best = seconds, Keep(k, left)
        return best

    def _best_split(self, first: int, last: int, owned: bool, room: int) -> tuple[float, Decision]:
        costs, optimum = self.costs, self.optimum
        held = int(self.boundaries[first]) if owned else 0
        sweeps = self.sweeps[first:last].copy()
        sweeps[0] -= self.boundaries[first]
        needs = np.maximum.accumulate(sweeps) + (costs.cotangent_bytes(last + 1) + held)
        count = int(np.searchsorted(needs, room, side="right"))
        if not count:
            return float("inf"), Split(first + 1)
        at = np.arange(first + 1, first + 1 + count)
        right_room = room - held
        left_room = room - (int(self.boundaries[-1]) if last == len(costs) - 1 else 0)
        rights = self._look_up(optimum.row(at, last, True), right_room)
        lefts = self._look_up(optimum.row(first, at - 1, owned), left_room)
        seconds = self.swept[at] - self.swept[first] + rights + lefts
        best = int(np.argmin(seconds))
        return float(seconds[best]), Split(int(at[best]), right_room, left_room)

    def _look_up(self, rows: NDArray[np.int64], room: int) -> NDArray[np.float64]:
        if room < 0:
            return np.full(len(rows), np.inf)
        if self.curves is not None:
            curves, numbers = self.curves, cast("list[int]", rows.tolist())
            return np.array([curves[row].within(room) for row in numbers])
        seconds = np.where(self.least[rows] <= room, self.seconds[rows], np.inf)
        if self.values is None:
            return seconds
        slot = min(room // self.slot, self.values.shape[1] - 1)
        return np.minimum(seconds, self.values[rows, slot])


@lru_cache(maxsize=1)
def optimum_of(costs: ChainCosts) -> Optimum:
    """The tables of a chain; those of the last one are kept, for the smallest peak and the plan within it."""
    return Optimum(costs)


def smallest_schedule(costs: ChainCosts) -> ScheduleWriter:
    """A schedule of the smallest peak: of all nested ones, and where the chain is short, of all."""
    optimum = optimum_of(costs)
    if optimum.is_long:
        return smallest_groups(costs)
    if len(costs) <= SMALLEST_STAGES and exhaustive_search.least_conceivable(costs) < optimum.least_bytes:
        smallest = exhaustive_search.search(costs, 0, limit=SMALLEST_LIMIT)
        if smallest is not None and smallest.peak < optimum.least_bytes:
            return smallest
    return optimum.write(optimum.least_bytes, fast=False)


def minimum_peak(costs: ChainCosts) -> tuple[int, int | None]:
    """The smallest peak in bytes that the optimal policy reaches, `held_bytes` included, and the stage that
    sets it.
    """
    writer = smallest_schedule(costs)
    return writer.peak, writer.peak_stage
