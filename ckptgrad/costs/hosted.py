"""Temporaries that a compiler keeps in the memory of results that come later.

Each result of a program has memory of its own from the start, and until it is made XLA's buffer assignment puts temporaries
there: one at a time, no larger than the result, and gone before it.  So gradients that backwards still to come will make
hold arrays of the stage that runs.  That is counted as scratch which the stage does not take.

Among arrays of a size the first ones made come first, and what lives for long finds a result's memory taken, now or later,
by what lives inside a stage.  So one result is for those alone, and held arrays lie in others.
Does not: count what stages hold for each other meanwhile, of which some may lie in the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ckptgrad.chain.inside import held_in_backward, held_in_forward
from ckptgrad.chain.kind import StageKind, private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.graph.graph import Variable
from ckptgrad.once import once
from ckptgrad.planning.costs import ChainCosts, StageCost

# Results that are looked at: the largest ones.
MOST_RESULTS = 16
# The most stages before the one that runs to which an array that it holds forbids a result.
MOST_BEFORE = 2


class _Array(NamedTuple):
    """An array that a stage holds, and which result may hold it: one made so many stages before, at least."""

    bytes: int
    before: int


class _Result(NamedTuple):
    """A gradient of an argument, and the stage whose backward makes it."""

    bytes: int
    stage: int


class _Later(NamedTuple):
    """A result that the backward of a stage makes which stands so many stages before, or more."""

    bytes: int
    stages: int


class _Hosted(NamedTuple):
    """Bytes that a stage keeps in results: in a forward that keeps nothing; in forwards and backwards by their option."""

    plain: int
    forward: tuple[int, ...]
    backward: tuple[int, ...]


def with_hosted(program: Program, costs: ChainCosts) -> ChainCosts:
    """Costs without the bytes that lie in results which come later; none do where each stage is a program of its own, or
    gradients are no results."""
    if program.staged or program.consumed:
        return costs
    by_stage: dict[int, list[_Result]] = {}
    for result in _results(program):
        by_stage.setdefault(result.stage, []).append(result)
    arrays: dict[StageKind, _Arrays] = {}
    known: dict[tuple[int, _Hosted], StageCost] = {}
    stages: list[StageCost] = []
    largest: list[_Result] = []
    later: tuple[_Later, ...] = ()
    for i, (stage, cost) in enumerate(zip(program.stages, costs.stages, strict=True)):
        if stage.kind not in arrays:
            arrays[stage.kind] = _Arrays(stage.kind)
        made = by_stage.get(i, ())
        if any(len(largest) < MOST_RESULTS or result.bytes > largest[-1].bytes for result in made):
            largest = sorted((*largest, *made), key=lambda result: -result.bytes)[:MOST_RESULTS]
            later = ()
        if not all(result.stages == MOST_BEFORE for result in later) or not later:
            later = tuple(_Later(result.bytes, min(i - result.stage, MOST_BEFORE)) for result in largest)
        hosted = arrays[stage.kind].hosted(later)
        key = id(cost), hosted
        if key not in known:
            known[key] = _without(cost, hosted)
        stages.append(known[key])
    return replace(costs, stages=tuple(stages))


def _results(program: Program) -> list[_Result]:
    """The gradients of arguments; those that are sums from their first term on."""
    makers = {v: i for i, stage in enumerate(program.stages) for v in stage.gradients}
    of = program.target.bytes_of
    return [_Result(of(program.gradient_of(v)), makers[v]) for v in program.wrt if v in makers]


class _Arrays:
    """The arrays that a kind of stage holds while it runs."""

    def __init__(self, kind: StageKind) -> None:
        of, joint = kind.target.bytes_of, kind.joint
        boundary_in = [joint.inputs[i] for i in kind.boundary_in]
        crossing = [joint.cotangents[k] for k, i in enumerate(kind.seeds) if i in {*kind.boundary_out}]
        # The stage before may read its output in its backward, and write the next cotangent over this one.
        self.arriving = [_Array(of(v), MOST_BEFORE) for v in boundary_in]
        self.made = [_Array(of(v), 1) for v in kind.outputs_kept]
        self.cotangents = [_Array(of(v), MOST_BEFORE) for v in crossing]
        self.residuals = [[_Array(of(v), 1) for v in private_residuals(kind, option)] for option in kind.options]
        self.reads_input = [any(v in {*boundary_in} for v in option.partition.reads) for option in kind.options]
        self._kind = kind
        self._known: dict[tuple[_Later, ...], _Hosted] = {}

    def hosted(self, results: tuple[_Later, ...]) -> _Hosted:
        """What the stage keeps in results."""
        if results not in self._known:
            self._known[results] = self._hosted(results)
        return self._known[results]

    def _hosted(self, results: Sequence[_Later]) -> _Hosted:
        options = range(len(self.residuals))
        if not results:
            return _Hosted(0, (0,) * len(options), (0,) * len(options))
        passed, (plain, forward, backward) = (*self.arriving, *self.made), self._inside
        return _Hosted(
            _matched(plain, passed, results),
            tuple(_matched(forward[k], (*passed, *self.residuals[k]), results) for k in options),
            tuple(_matched(backward[k], self._read(k), results) for k in options),
        )

    def _read(self, k: int) -> list[_Array]:
        return [*(self.arriving if self.reads_input[k] else ()), *self.cotangents, *self.residuals[k]]

    @once
    def _inside(self) -> tuple[list[_Array], list[list[_Array]], list[list[_Array]]]:
        """The arrays inside, in a forward that keeps nothing, and in forwards and backwards by their option."""
        kind = self._kind

        def arrays(values: Sequence[Variable], before: int) -> list[_Array]:
            return [_Array(kind.target.bytes_of(v), before) for v in values]

        forward = [arrays(held_in_forward(kind, option), 0) for option in kind.options]
        backward = [arrays(held_in_backward(kind, option), 1) for option in kind.options]
        return arrays(held_in_forward(kind, None), 0), forward, backward


def _matched(inside: Sequence[_Array], held: Sequence[_Array], results: Sequence[_Later]) -> int:
    """Bytes of arrays that lie each in a result: the largest first, each in the smallest result that it fits into."""
    left = sorted(results, key=lambda result: result.bytes)

    def placed(arrays: Sequence[_Array]) -> list[int]:
        found: list[int] = []
        for array in sorted(arrays, key=lambda array: -array.bytes):
            place = next((r for r in left if r.bytes >= array.bytes and r.stages >= array.before), None)
            if place is not None:
                left.remove(place)
                found.append(array.bytes)
        return found

    within, passing = placed(inside), placed(held)
    # Where nothing inside lies in a result at the worst moment, something does at another.
    return sum(within) + sum(passing if within else passing[1:])


def _without(cost: StageCost, hosted: _Hosted) -> StageCost:
    options = tuple(
        replace(
            option,
            forward_transient=max(min(0, option.forward_transient), option.forward_transient - hosted.forward[k]),
            backward_transient=option.backward_transient - hosted.backward[k],
        )
        for k, option in enumerate(cost.options)
    )
    return replace(cost, options=options, forward_transient=max(0, cost.forward_transient - hosted.plain))
