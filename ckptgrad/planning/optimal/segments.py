"""Segments of a chain, with equal ones told apart from different ones only once.

Algorithm: stages of equal costs, inputs included, get one kind; segments whose kinds read the same get one
class (hash-consing by length: the class of a..b follows from that of a..b-1 and the kind of b). 1,000 equal
layers between a different first and last one make about 3,000 classes instead of 500,000 segments.
Regime: up to a few thousand stages; the matrix of classes has n^2 entries.
Does not: solve anything; `tables` fills tables over classes, `optimum` reads them back for segments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ckptgrad.planning.costs import ChainCosts

BAND = 4


class Kinds(NamedTuple):
    """Costs of each kind of stage: bytes as integers, `forward_time` and `option_time` in seconds.

    The options of kind t stand at `option_start[t]` up to `option_start[t + 1]` of the `option_` columns.
    `result` is the bytes of the chain's result for the kind of the last stage, 0 for the others. `option_hidden` is
    0 for the last stage: its forward always produces the result.  `option_alone` is the time of an option in a segment of
    one stage, where nobody but its own backward may read its output.
    """

    input: Any
    output: Any
    input_cotangent: Any
    output_cotangent: Any
    transient: Any
    result: Any
    forward_time: Any
    option_start: Any
    option_residual: Any
    option_forward: Any
    option_hidden: Any
    option_backward: Any
    option_reads_input: Any
    option_reads_output: Any
    option_time: Any
    option_alone: Any


class Classes(NamedTuple):
    """Each class of segments: its first and last kind, its length.

    `tail` and `head` are the classes without the first and without the last stage, -1 for single stages. Both
    stand before their class.
    """

    first: Any
    last: Any
    length: Any
    tail: Any
    head: Any


class Segments(NamedTuple):
    """`matrix[a, b]` is the class of the segment of stages a to b."""

    kinds: Kinds
    classes: Classes
    matrix: np.ndarray


def segments_of(costs: ChainCosts) -> Segments:
    """Classify all segments of a chain."""
    numbers: dict[tuple, int] = {}
    last = len(costs) - 1
    kind_of = np.empty(len(costs), np.int64)
    for i, stage in enumerate(costs.stages):
        key = (costs.boundary_bytes(i), costs.cotangent_bytes(i), stage, i == last)
        kind_of[i] = numbers.setdefault(key, len(numbers))
    classes, matrix = _classify(kind_of, len(numbers))
    return Segments(_kinds(list(numbers)), classes, matrix)


def plain(columns: Kinds | Classes) -> Any:
    """The same columns as lists, which the interpreter reads several times faster than arrays."""
    return type(columns)(*(column.tolist() for column in columns))


def _kinds(keys: list[tuple]) -> Kinds:
    stages = [stage for _, _, stage, _ in keys]
    options = [option for stage in stages for option in stage.options]

    def integers(values) -> np.ndarray:
        return np.array(list(values), np.int64)

    return Kinds(
        input=integers(key[0] for key in keys),
        output=integers(stage.boundary_bytes for stage in stages),
        input_cotangent=integers(key[1] for key in keys),
        output_cotangent=integers(stage.cotangent_bytes for stage in stages),
        transient=integers(stage.forward_transient for stage in stages),
        result=integers(stage.boundary_bytes if is_last else 0 for _, _, stage, is_last in keys),
        forward_time=np.array([stage.forward_time for stage in stages], np.float64),
        option_start=integers(np.cumsum([0] + [len(stage.options) for stage in stages])),
        option_residual=integers(option.residual_bytes for option in options),
        option_forward=integers(option.forward_transient for option in options),
        option_hidden=integers(0 if key[3] else option.hidden_bytes for key in keys for option in key[2].options),
        option_backward=integers(option.backward_transient for option in options),
        option_reads_input=integers(option.reads_input for option in options),
        option_reads_output=integers(option.reads_output for option in options),
        option_time=np.array([option.time for option in options], np.float64),
        option_alone=np.array(
            [o.time if key[3] or o.reads_output else o.time_alone for key in keys for o in key[2].options], np.float64
        ),
    )


def _classify(kind_of: np.ndarray, kinds: int) -> tuple[Classes, np.ndarray]:
    n = len(kind_of)
    matrix = np.full((n, n), -1, np.int64)
    starts = np.arange(n)
    columns, known, previous = [], 0, np.full(n, -1)
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


def _turn(first: np.ndarray, last: np.ndarray, n: int) -> np.ndarray:
    """When segments are solved: by bands of first stages from the chain's end on, then by last stage.

    What is right of a split is then read once a band, and what is left of it lies close together.
    """
    return ((n - first) // BAND * n + last) * BAND + (n - first) % BAND
