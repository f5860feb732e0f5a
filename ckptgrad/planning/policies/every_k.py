"""Every k: hold every k-th boundary, then reverse the chain segment by segment, each from its own boundary.

Aliases: periodic or equidistant checkpointing, segment-wise `jax.checkpoint`, `checkpoint_sequential`.
Regime: one recomputation of everything but the last segment is affordable, and stages cost about the same.
Does not: recompute twice, adapt segments to uneven stages, or choose among save options (it keeps the
fastest).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.nested import Decision, Segment, Split, keep_fastest, write_nested
from ckptgrad.planning.policy import Policy, policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.planning.writer import ScheduleWriter

CHEN = "Chen, Xu, Zhang and Guestrin 2016, Training deep nets with sublinear memory cost"


def segments_of_k(costs: ChainCosts, k: int) -> ScheduleWriter:
    """Write the schedule with segments of `k` stages; the last segment takes what is left over."""
    keep = keep_fastest(costs)

    def decide(segment: Segment) -> Decision:
        splits = segment.state == "outer" and segment.last - segment.first >= k
        return Split(segment.first + k, right="outer") if splits else keep(segment)

    return write_nested(costs, decide, "outer")


def every_k(k: int) -> Policy:
    """The policy with segments of `k` stages, for chains of any length."""
    if k < 1:
        raise ValueError(f"a segment has at least one stage, got k={k}")

    def run(costs: ChainCosts, budget: int | None = None) -> Schedule:
        return segments_of_k(costs, k).finish(f"every_k({k})", budget)

    return run


@policy("every_k", references=(CHEN,))
def smallest_k(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """The smallest k whose peak is within `budget` bytes; without one, k = 1.

    Every k up to 32 is tried; beyond, each is about a sixteenth larger than the one before.
    """
    return _first_fit((segments_of_k(costs, k) for k in _candidates(len(costs))), budget)


def _first_fit(writers: Iterator[ScheduleWriter], budget: int | None) -> Schedule:
    smallest = next(writers)
    for writer in chain([smallest], writers):
        if writer.fits(budget):
            return writer.finish("every_k")
        if writer.peak < smallest.peak:
            smallest = writer
    return smallest.finish("every_k", budget)


def _candidates(n: int) -> Iterator[int]:
    k = 1
    while k < n:
        yield k
        k = max(k + 1, math.ceil(k * 17 / 16)) if k >= 32 else k + 1
    yield n
