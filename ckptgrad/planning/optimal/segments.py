"""Segments of a chain, equal ones recognised once.

Algorithm: stages of equal costs, inputs included, get one kind; segments whose kinds read the same get one
class (hash-consing by length: the class of a..b follows from that of a..b-1 and the kind of b). 1,000 equal
layers between a different first and last one make about 3,000 classes instead of 500,000 segments.
Regime: up to a few thousand stages; the matrix of classes has n^2 entries.
Does not: solve anything; `recurrences` fills tables over classes, `dynamic_programming` reads them back for segments.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import backward_change, forward_change

BAND = 4

Integers: TypeAlias = NDArray[np.int64]
Column = TypeVar("Column")


class Kinds(NamedTuple):
    """Costs of each kind of stage, by the ledger: bytes as integers, `forward_time` and `option_time` in seconds.

    The options of kind t stand at `option_start[t]` up to `option_start[t + 1]` of the `option_` columns.
    `sweep` is the bytes added during a forward that keeps nothing; `option_forward` and `option_alone_forward` those during
    a forward that keeps an option, in a longer segment and in a segment of one stage, where only the stage's own backward
    may read its output; `option_between` what then stays for the backward, but for the stage's input; `option_backward`
    the bytes during the backward beyond that, both cotangents counted.  `result` is the bytes of the chain's result for the
    kind of the last stage, 0 for the others: that is held beside the segment from its first forward on, and left out of
    `option_between`.  `option_alone_time` is as `option_time`, in a segment of one stage.
    """

    input: list[int]
    output_cotangent: list[int]
    sweep: list[int]
    result: list[int]
    forward_time: list[float]
    option_start: list[int]
    option_forward: list[int]
    option_alone_forward: list[int]
    option_between: list[int]
    option_backward: list[int]
    option_reads_input: list[int]
    option_reads_output: list[int]
    option_time: list[float]
    option_alone_time: list[float]

    def as_arrays(self) -> Any:
        """The same columns as arrays, which compiled code reads."""
        return type(self)._make(map(np.array, self))  # type: ignore[arg-type]


class Classes(NamedTuple, Generic[Column]):
    """Each class of segments: its first and last kind, its length.

    `tail` and `head` are the classes without the first and without the last stage, -1 for single stages. Both
    stand before their class.
    """

    first: Column
    last: Column
    length: Column
    tail: Column
    head: Column

    def as_lists(self: Classes[Integers]) -> Classes[list[int]]:
        """The same columns as lists, which the interpreter reads several times faster than arrays."""
        return Classes(*(column.tolist() for column in self))


class Segments(NamedTuple):
    """The segments of a chain.

    Attributes:
        kinds: costs by kind of stage.
        classes: what segments have in common, by class.
        kind_of: the kind of each stage.
        matrix: at [a, b] the class of the segment of stages a to b.
        divisor: the largest number that divides all bytes, those of the chain's result aside.
    """

    kinds: Kinds
    classes: Classes[Integers]
    kind_of: list[int]
    matrix: NDArray[np.int32]
    divisor: int


def segments_of(costs: ChainCosts) -> Segments:
    """Classify all segments of a chain."""
    numbers: dict[_Kind, int] = {}
    last = len(costs) - 1
    kind_of = np.empty(len(costs), np.int64)
    for i, stage in enumerate(costs.stages):
        kind = _Kind(costs.boundary_bytes(i), costs.cotangent_bytes(i), stage, i == last)
        kind_of[i] = numbers.setdefault(kind, len(numbers))
    classes, matrix = _classify(kind_of, len(numbers))
    kinds = list(numbers)
    return Segments(_kinds(kinds), classes, kind_of.tolist(), matrix, _divisor(kinds))


class _Kind(NamedTuple):
    """What stages of equal costs have in common."""

    input_bytes: int
    input_cotangent: int
    stage: StageCost
    is_last: bool


class _OptionBytes(NamedTuple):
    """A row of the `option_` columns of `Kinds` that count bytes."""

    forward: int
    alone_forward: int
    between: int
    backward: int


def _option_bytes(kind: _Kind, keep: int) -> _OptionBytes:
    stage = kind.stage
    read_later = stage.options[keep].reads_output
    with_output = forward_change(stage, keep)
    alone = with_output if read_later or kind.is_last else forward_change(stage, keep, output=False)
    between = forward_change(stage, keep, output=read_later and not kind.is_last).after
    back = backward_change(stage, keep, kind.input_cotangent)
    return _OptionBytes(with_output.during, alone.during, between, stage.cotangent_bytes + back.during)


def _kinds(kinds: list[_Kind]) -> Kinds:
    options = [(kind, keep) for kind in kinds for keep in range(len(kind.stage.options))]
    chosen = [kind.stage.options[keep] for kind, keep in options]
    bytes_ = [_option_bytes(kind, keep) for kind, keep in options]

    alone = (
        option.time if kind.is_last or option.reads_output else option.time_alone
        for (kind, _), option in zip(options, chosen, strict=True)
    )
    return Kinds(
        input=[kind.input_bytes for kind in kinds],
        output_cotangent=[kind.stage.cotangent_bytes for kind in kinds],
        sweep=[forward_change(kind.stage).during for kind in kinds],
        result=[kind.stage.boundary_bytes if kind.is_last else 0 for kind in kinds],
        forward_time=[float(kind.stage.forward_time) for kind in kinds],
        option_start=[*itertools.accumulate((len(kind.stage.options) for kind in kinds), initial=0)],
        option_forward=[b.forward for b in bytes_],
        option_alone_forward=[b.alone_forward for b in bytes_],
        option_between=[b.between for b in bytes_],
        option_backward=[b.backward for b in bytes_],
        option_reads_input=[int(option.reads_input) for option in chosen],
        option_reads_output=[int(option.reads_output) for option in chosen],
        option_time=[float(option.time) for option in chosen],
        option_alone_time=[float(seconds) for seconds in alone],
    )


def _divisor(kinds: list[_Kind]) -> int:
    """The largest number that divides all bytes of a chain, its result aside; 1 where all are 0."""
    sizes: list[int] = []
    for kind in kinds:
        stage = kind.stage
        sizes += kind.input_bytes, kind.input_cotangent, forward_change(stage).transients
        for keep in range(len(stage.options)):
            alone, back = forward_change(stage, keep, output=False), backward_change(stage, keep, kind.input_cotangent)
            sizes += alone.residuals, forward_change(stage, keep).transients, back.transients
            sizes += (0 if kind.is_last else alone.transients,)
    return math.gcd(*sizes) or 1


def _classify(kind_of: Integers, kinds: int) -> tuple[Classes[Integers], NDArray[np.int32]]:
    n = len(kind_of)
    matrix = np.full((n, n), -1, np.int64)
    starts = np.arange(n)
    columns: list[tuple[Integers, ...]] = []
    known, previous = 0, np.full(n, -1)
    for length in range(1, n + 1):
        ends = kind_of[length - 1 :]
        first = starts[: len(ends)]
        _, example, number = np.unique((previous[: len(ends)] + 1) * kinds + ends, return_index=True, return_inverse=True)
        turn = np.full(len(example), np.iinfo(np.int64).max)
        np.minimum.at(turn, number, _turn(first, first + length - 1, n))
        heads = previous[example]
        tails = previous[example + 1] if length > 1 else heads
        columns.append((turn, kind_of[example], ends[example], np.full(len(example), length), tails, heads))
        previous = known + number.astype(np.int64)
        known += len(example)
        matrix[first, first + length - 1] = previous
    turn, *rest, tail, head = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(turn)
    place = np.append(np.argsort(order), -1)
    classes = Classes(*(column[order] for column in rest), tail=place[tail[order]], head=place[head[order]])
    return classes, place[matrix].astype(np.int32)


def _turn(first: Integers, last: Integers, n: int) -> Integers:
    """The order in which segments are solved: by bands of first stages from the chain's end on, then by last stage.

    What is right of a split is then read once per band, and what is left of it lies close together.
    """
    return ((n - first) // BAND * n + last) * BAND + (n - first) % BAND
