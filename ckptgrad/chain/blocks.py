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
from ckptgrad.target.target import Target

# A cut that more bytes cross than the median by this factor is left out where stages may run over chunks.
FEW = 1.5
# What reads more bytes of arguments than most blocks by this factor, before or after them, is a stage of its own there.
MANY = 2


def block_cuts(graph: Graph, cuts: Sequence[int]) -> list[list[int]]:
    """For each place at which a block may begin the cuts, of those given, that stand between blocks.

    Args:
        graph: the whole forward graph.
        cuts: positions at which a stage ends, ascending.

    Returns:
        Lists of positions; none where no run of several stages is repeated.
    """
    edges = [0, *cuts, len(graph.operations)]
    shapes = [_shape(graph, a, b) for a, b in itertools.pairwise(edges)]
    period, first, last = _repetition(shapes)
    if period < 2:
        return []
    starts = range(first, min(first + period, last))
    return [sorted({edges[i] for i in range(start, last + 1, period)} - {0, edges[-1]}) for start in starts]


def coarser_cuts(graph: Graph, target: Target) -> list[list[int]]:
    """The ways to cut a graph between whole blocks, as users write `jax.checkpoint`.

    Of the cuts of a graph without blocks, or with blocks that are cut nowhere inside, those where not many more bytes cross
    than at most others; none where that is all of them, or where the user marked the stages.
    """
    if graph.stage_marks:
        return []
    cuts = find_cuts(graph, target)
    if of_blocks := block_cuts(graph, cuts):
        return of_blocks
    few = _where_few_cross(crossing_bytes(graph, target), cuts, cuts)
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
    of_blocks = block_cuts(graph, cuts)
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


def _repetition(shapes: Sequence[Any]) -> tuple[int, int, int]:
    """The shortest period with which most stages repeat, and the first and the end of those that do.

    A period of 0 where none holds for half of the stages, and for more than two blocks: the first and the last are often
    cut, or joined to what is around them, in a way of their own.
    """
    n = len(shapes)
    for period in range(1, n // 2):
        same = [shapes[i] == shapes[i + period] for i in range(n - period)]
        runs = [(k, list(g)) for k, g in itertools.groupby(range(n - period), key=lambda i: same[i])]
        first, length = max(((g[0], len(g)) for k, g in runs if k), key=lambda run: run[1], default=(0, 0))
        if length > period and length + period >= n / 2:
            return period, first, first + length + period
    return 0, 0, 0
