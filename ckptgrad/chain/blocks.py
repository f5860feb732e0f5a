"""Where a chain repeats: cuts at the boundaries of its blocks only.

A stack of equal blocks (attention and a feed-forward layer, say) is cut inside its blocks too, which is what small budgets
ask for.  Each cut costs time where stages are kept apart by barriers, so that coarser cuts, one stage a block as users write
`jax.checkpoint`, are the better ones wherever a whole block fits.  A block is a run of stages that returns; where in it the
period begins is not said by the graph, so every beginning is offered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ckptgrad.chain.cut import crossing_bytes, find_cuts
from ckptgrad.graph.graph import Graph, variables_of
from ckptgrad.graph.traits import is_heavy, is_same_numbers
from ckptgrad.target.target import Target

# A cut that more bytes cross than the median by this factor is left out.
FEW = 1.5
# A coarse stage makes at most so many times the bytes of the largest stage that is there anyway.
LARGE = 2
# What reads more bytes of arguments than most blocks by this factor, before or after them, is a stage of its own there.
MANY = 2


def block_cuts(graph: Graph, target: Target, cuts: Sequence[int]) -> list[list[int]]:
    """For each place at which a block may begin the cuts, of those given, that stand between blocks.

    Blocks of one level of a network whose widths differ from level to level repeat in that level only. What stands beside
    the blocks is one stage unless that made many more bytes than what is the largest anyway.

    Args:
        graph: the whole forward graph.
        target: what it is compiled for.
        cuts: positions at which a stage ends, ascending.

    Returns:
        Lists of positions; none where no run of several stages is repeated.
    """
    edges = [0, *cuts, len(graph.operations)]
    period, runs = _repetition([_shape(graph, a, b) for a, b in itertools.pairwise(edges)])
    if not period:
        period, runs = _repetition([_heavy_shape(graph, a, b) for a, b in itertools.pairwise(edges)])
    if period < 2:
        return []
    sizes = _Sizes(graph, target, cuts)
    ways: list[list[int]] = []
    for start in range(period):
        between = {edges[i] for first, last in runs for i in range(first + start, last + 1, period)}
        ways.append(sizes.with_cuts_inside_large(sorted(between - {0, edges[-1]})))
    return ways


def coarser_cuts(graph: Graph, target: Target) -> list[list[int]]:
    """The ways to cut a graph between whole blocks, as users write `jax.checkpoint`.

    Of the cuts of a graph without blocks, or with blocks that are cut nowhere inside, those where not many more bytes cross
    than at most others, unless stages between them made many more bytes than the largest one does: the first levels of a
    network whose widths fall stay stages of their own. None where that is all of them, or where the user marked the stages.
    """
    if graph.stage_marks:
        return []
    cuts = find_cuts(graph, target)
    if of_blocks := block_cuts(graph, target, cuts):
        return of_blocks
    few = _where_few_cross(crossing_bytes(graph, target), cuts, cuts)
    few = _Sizes(graph, target, cuts).with_cuts_inside_large(few)
    return [] if len(few) == len(cuts) else [few]


def cuts_for_chunks(graph: Graph, target: Target) -> list[int]:
    """Where to cut a graph into stages that may run over chunks: at few places, where few bytes cross.

    What a stage holds inside then counts little. Between blocks, which begin where the fewest bytes cross; of the cuts of a
    graph without blocks those where not many more bytes cross than at most others. What stands before the first block or
    after the last one, and reads many more parameters (a loss over many words), is apart, as it is cut along other axes. The
    user's marks stay as they are.
    """
    cuts = find_cuts(graph, target)
    if graph.stage_marks:
        return cuts
    crossing = crossing_bytes(graph, target)
    of_blocks = block_cuts(graph, target, cuts)
    chosen = min(of_blocks, key=lambda positions: sum(crossing[p] for p in positions)) if of_blocks else cuts
    few = _where_few_cross(crossing, chosen, cuts)
    kept = [p for p in chosen if p in few]
    return sorted({*kept, *_ends(graph, kept, few)}) if of_blocks else kept


def _where_few_cross(crossing: Sequence[int], usual: Sequence[int], cuts: Sequence[int]) -> list[int]:
    """The cuts that at most `FEW` times the bytes cross that cross the usual ones, in the median."""
    median = sorted(crossing[p] for p in usual)[len(usual) // 2] if usual else 0
    return [p for p in cuts if crossing[p] <= FEW * median]


def _ends(graph: Graph, kept: Sequence[int], few: Sequence[int]) -> list[int]:
    """Of the places where few bytes cross the first and the last one, where what stands outside them reads much."""
    edges = [0, *kept, len(graph.operations)]
    usual = sorted(_bytes_read(graph, a, b) for a, b in itertools.pairwise(edges))[len(kept) // 2]
    first, last = few[0], few[-1]
    ends = [(first, _bytes_read(graph, 0, first)), (last, _bytes_read(graph, last, len(graph.operations)))]
    return [place for place, size in ends if size > MANY * usual]


def _bytes_read(graph: Graph, start: int, end: int) -> int:
    """Bytes of the inputs of a graph that a run of operations reads."""
    inputs = {*graph.inputs}
    return sum(v.nbytes for v in {v for op in graph.operations[start:end] for v in variables_of(op.inputs)} & inputs)


def _shape(graph: Graph, start: int, end: int) -> tuple[Any, ...]:
    """What a run of operations does, up to its operands."""
    return tuple((op.primitive, *((v.aval.shape, v.aval.dtype) for v in op.outputs)) for op in graph.operations[start:end])


def _heavy_shape(graph: Graph, start: int, end: int) -> tuple[Any, ...]:
    """The same of its heavy operations, if it has any: the last stage of a level often lays out what the next one reads."""
    operations = range(start, end)
    heavy = [i for i in operations if is_heavy(graph.operations[i])]
    return tuple(shape for i in heavy or operations for shape in _shape(graph, i, i + 1))


class _Sizes:
    """What the stages of a graph make, cut as finely as it can be."""

    def __init__(self, graph: Graph, target: Target, cuts: Sequence[int]) -> None:
        self._cuts, self._end = cuts, len(graph.operations)
        sizes = (0 if is_same_numbers(op) else target.total_bytes(op.outputs) for op in graph.operations)
        self._before = [0, *itertools.accumulate(sizes)]

    def with_cuts_inside_large(self, chosen: Sequence[int]) -> list[int]:
        """The chosen cuts, and all of those inside of each stage between them that makes many more bytes (`LARGE`) than the
        largest one of the finest stages, and than the usual one between the chosen cuts."""
        stages = [*itertools.pairwise([0, *chosen, self._end])]
        finest = itertools.pairwise([0, *self._cuts, self._end])
        usual = sorted(self._made(*stage) for stage in stages)[len(stages) // 2]
        most = LARGE * max(usual, *(self._made(*stage) for stage in finest))
        large = [(start, end) for start, end in stages if self._made(start, end) > most]
        return sorted({*chosen, *(p for start, end in large for p in self._cuts if start < p < end)})

    def _made(self, start: int, end: int) -> int:
        return self._before[end] - self._before[start]


def _repetition(shapes: Sequence[Any]) -> tuple[int, list[tuple[int, int]]]:
    """The shortest period with which most stages repeat, and the runs of those that do: the first stage and the end.

    In one run of more than two blocks, if that is half of the stages; else in several of two or more. A period of 0 where
    none holds for half of the stages: the first and the last are often cut, or joined to what is around them, in a way of
    their own.
    """
    n = len(shapes)
    several: tuple[int, list[tuple[int, int]]] = 0, []
    for period in range(1, n // 2):
        same = [shapes[i] == shapes[i + period] for i in range(n - period)]
        equal = [list(g) for k, g in itertools.groupby(range(n - period), key=lambda i: same[i]) if k]
        runs = [(g[0], g[-1] + 1 + period) for g in equal if len(g) >= period]
        longest = max((last - first for first, last in runs), default=0)
        if longest > 2 * period and longest >= n / 2:
            return period, runs
        if not several[0] and len(runs) > 1 and len({i for run in runs for i in range(*run)}) >= n / 2:
            several = period, runs
    return several
