"""Where to cut a graph into stages.

Cuts come from the user's marks where there are any.  Otherwise from the graph: between two heavy
operations the position where the fewest bytes cross; positions whose crossing values overlap are
rivals, and the cheaper one wins.  So a residual block is cut where only its stream crosses, not
inside its branch.  Values that live across many heavy operations (masks, tables, skip connections)
are set aside as long-lived before positions are compared; how long is "many" is chosen among a few
thresholds by the bytes that the resulting chain cannot avoid holding.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

import numpy as np

from ckptgrad.graph.evaluate import last_uses
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.traits import is_heavy
from ckptgrad.graph.work import flops
from ckptgrad.target.target import Target

# More stages than this are merged where none of their operations is heavy: the planner's work grows with their cube, and
# that of a plan for the smallest peak with their square, each of its forwards being a call of its own.
MAX_LIGHT_STAGES = 512


def find_cuts(graph: Graph, target: Target) -> list[int]:
    """Positions p such that a stage ends before operation p, ascending, ends of the graph left out."""
    n = len(graph.operations)
    if graph.stage_marks:
        marks = graph.stage_marks
        cuts = {end for _, end in marks} | {marks[0][0]}
        return sorted(c for c in cuts if 0 < c < n)
    return _Crossings(graph, target).best_cuts()


def crossing_bytes(graph: Graph, target: Target) -> list[int]:
    """For each position, the bytes of what is made before it and read at it or later."""
    last = last_uses(graph)
    change = [0] * (len(graph.operations) + 2)
    for p, op in enumerate(graph.operations):
        for v in op.outputs:
            if v in last:
                change[p + 1] += target.bytes_of(v)
                change[last[v] + 1] -= target.bytes_of(v)
    return [*itertools.accumulate(change)]


class _Crossings:
    """Bytes that cross each position of a graph, and the cuts that follow from them."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.n = n = len(graph.operations)
        weights = _heavy_operations(graph)
        self.heavy_before = np.concatenate([[0], np.cumsum(weights)])
        last = last_uses(graph)
        made = [(v, p) for p, op in enumerate(graph.operations) for v in op.outputs if v in last]
        self.start = np.array([p for _, p in made], dtype=np.int64)
        self.end = np.array([min(last[v], n) for v, _ in made], dtype=np.int64)
        self.size = np.array([target.bytes_of(v) for v, _ in made], dtype=np.int64)
        self.life = self.heavy_before[self.end] - self.heavy_before[np.minimum(self.start + 1, n)]
        returned = {a for a in graph.outputs if isinstance(a, Variable)}
        self.is_output = np.array([v in returned for v, _ in made], dtype=bool)

    def best_cuts(self) -> list[int]:
        total = int(self.heavy_before[-1])
        if total < 2 or self.n < 2:
            return []
        candidates = sorted({t for t in (total + 1, total // 2, 64, 32, 16, 8) if t >= 4 or t > total})
        best: tuple[float, int, list[int]] | None = None
        tried: set[bytes] = set()
        for threshold in reversed(candidates):
            short = (self.life < threshold) & ~self.is_output
            if (same := short.tobytes()) in tried:
                continue
            tried.add(same)
            cuts, score = self._cuts_for(short)
            if best is None or score < 0.98 * best[0]:
                best = (score, threshold, cuts)
        assert best is not None
        return best[2]

    def _cuts_for(self, short: np.ndarray) -> tuple[list[int], float]:
        """Cuts when all values but these count as long-lived, and a score."""
        crossing = np.zeros(self.n + 2, dtype=np.int64)
        np.add.at(crossing, self.start[short] + 1, self.size[short])
        np.add.at(crossing, self.end[short] + 1, -self.size[short])
        crossing = np.cumsum(crossing)[: self.n + 1]
        reach = np.zeros(self.n + 1, dtype=np.int64)
        np.maximum.at(reach, np.minimum(self.start[short] + 1, self.n), self.end[short])
        reach = np.maximum.accumulate(reach)
        cuts = self._disjoint(self._one_per_gap(crossing), crossing, reach)
        return cuts, self._score(cuts, short)

    def _one_per_gap(self, crossing: np.ndarray) -> list[int]:
        """For each number of heavy operations passed, the last position of fewest crossing bytes."""
        best: dict[int, int] = {}
        for p in range(1, self.n):
            done = int(self.heavy_before[p])
            q = best.get(done)
            if 0 < done < self.heavy_before[-1] and (q is None or crossing[p] <= crossing[q]):
                best[done] = p
        return list(best.values())

    def _disjoint(self, positions: Sequence[int], crossing: np.ndarray, reach: np.ndarray) -> list[int]:
        """Those positions, cheapest first, whose crossing values do not overlap with those of one chosen before."""
        chosen: list[int] = []
        for p in sorted(positions, key=lambda p: (crossing[p], p)):
            at = bisect.bisect(chosen, p)
            clear_left = at == 0 or reach[chosen[at - 1]] < p
            clear_right = at == len(chosen) or reach[p] < chosen[at]
            if clear_left and clear_right:
                chosen.insert(at, p)
        return chosen

    def _score(self, cuts: Sequence[int], short: np.ndarray) -> float:
        """Bytes that the chain cannot avoid: long-lived values and the largest stage's values."""
        edges = [0, *cuts, self.n]
        stage = np.searchsorted(cuts, self.start, side="right")
        last_stage = np.searchsorted(cuts, np.maximum(self.end, 0), side="right")
        held = self.size[(last_stage > stage + 1) & ~self.is_output].sum()
        inside = np.bincount(stage, weights=self.size, minlength=len(edges) - 1)
        return float(2 * held + inside.max(initial=0.0))


def _heavy_operations(graph: Graph) -> np.ndarray:
    """1 for each operation that separates cut positions.

    Heavy operations, or, in a graph with hardly any, every operation on arrays of the usual size.
    """
    heavy = np.array([is_heavy(op) for op in graph.operations], dtype=np.int64)
    work = np.array([flops(op) for op in graph.operations], dtype=np.int64)
    if len(work) and heavy.sum() >= 3:
        return heavy & (work >= work[heavy > 0].max() // 4096)
    if not len(work):
        return heavy
    busy = (work >= max(int(work.max()) // 4, 1)).astype(np.int64)
    step = max(1, int(np.ceil(busy.sum() / MAX_LIGHT_STAGES)))
    count = itertools.count(1)
    return np.array([int(b and next(count) % step == 0) for b in busy], dtype=np.int64)
