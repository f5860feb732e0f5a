"""Nested schedules: a segment either keeps its first stage's residuals, or is split and its right part is done first.

Algorithm: reverse segment a..b of a chain. Keep: forward stage a with a save option, reverse a+1..b, run a's
backward. Split at j: forward a..j-1 keeping nothing, reverse j..b from boundary j, then restart from boundary
a for a..j-1. A segment *owns* its input boundary unless the stage before reads it again; an owned input is
freed as soon as nothing needs it: after the keeping forward, or after the backward if that reads it.
Store-all, every-k, Revolve, Rotor and the optimal policy differ only in the decision that they take for each
segment.
Does not: decide. Iterates with a stack of its own, so depth is bounded by memory, not by the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.schedule import Backward, Forward, Free
from ckptgrad.planning.writer import ScheduleWriter


class Segment(NamedTuple):
    """Stages `first` to `last`, both included; `state` is whatever the decider handed down."""

    first: int
    last: int
    owned: bool
    state: Any


class Keep(NamedTuple):
    """Keep save option `option` of the first stage; `rest` is the state of what follows."""

    option: int
    rest: Any = None


class Split(NamedTuple):
    """Reverse stages `at`..last first, with state `right`, then first..`at`-1, with state `left`."""

    at: int
    right: Any = None
    left: Any = None


class _Close(NamedTuple):
    """Run `stage`'s backward and free the `boundaries` that it read last."""

    stage: int
    boundaries: tuple[int, ...]


Decision: TypeAlias = Keep | Split


def write_nested(costs: ChainCosts, decide: Callable[[Segment], Decision], state: Any = None) -> ScheduleWriter:
    """Write the schedule that `decide` describes, starting from the whole chain with `state`."""
    writer = ScheduleWriter(costs)
    append, stages, end = writer.actions.append, costs.stages, len(costs)
    stack: list[Segment | _Close] = [Segment(0, end - 1, True, state)]
    while stack:
        item = stack.pop()
        if isinstance(item, _Close):
            append(Backward(item.stage))
            for boundary in item.boundaries:
                append(Free(boundary))
            continue
        first, last, owned, _ = item
        decision = decide(item)
        if isinstance(decision, Split):
            at, right, left = decision
            writer.sweep(first, at)
            stack.append(Segment(first, at - 1, owned, left))
            stack.append(Segment(at, last, True, right))
            continue
        option, rest = decision
        kept = stages[first].options[option]
        append(Forward(first, option, first < last or kept.reads_output or last == end - 1))
        freed: tuple[int, ...] = ()
        if owned and kept.reads_input:
            freed = (first,)
        elif owned:
            append(Free(first))
        if kept.reads_output and first + 1 < end:
            freed += (first + 1,)
        stack.append(_Close(first, freed))
        if first < last:
            stack.append(Segment(first + 1, last, not kept.reads_output, rest))
    return writer


def keep_fastest(costs: ChainCosts) -> Callable[[Segment], Decision]:
    """The decision to keep, everywhere, each stage's fastest option."""
    return keep_by(costs, lambda stage: stage.fastest)


def keep_lean(costs: ChainCosts) -> Callable[[Segment], Decision]:
    """The decision to keep, everywhere, the smallest of each stage's options that are about as fast as the fastest."""
    return keep_by(costs, lambda stage: stage.lean(len(costs)))


def keep_most(costs: ChainCosts) -> Callable[[Segment], Decision]:
    """The decision to keep, everywhere, each stage's option of the most residual bytes."""
    return keep_by(costs, lambda stage: max(range(len(stage.options)), key=lambda k: stage.options[k].residual_bytes))


def keep_by(costs: ChainCosts, choose: Callable[[StageCost], int]) -> Callable[[Segment], Decision]:
    """The decision to keep, everywhere, the option that is chosen for the stage."""
    distinct = {id(stage): stage for stage in costs.stages}
    decisions = {number: Keep(choose(stage)) for number, stage in distinct.items()}
    stages = costs.stages
    return lambda segment: decisions[id(stages[segment.first])]
