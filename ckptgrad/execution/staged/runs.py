"""Runs of steps as one program, where their temporaries are large.

glibc maps arrays of more than `LARGEST_KEPT` when they are allocated, and unmaps them when they are freed: a program whose
temporaries are larger touches new pages at every call, and of a transformer's gradient stage by stage that is a third of the
time. A run of steps in one program maps them once.

Runs are found from the pairs of neighbours that come most often, which become one, and so on, as in byte-pair encoding
(Gage, "A New Algorithm for Data Compression", 1994): few distinct programs stand for most of the steps. A run stays only
where no more is held than without it. Does not: reach over transfers; change what a step computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from ckptgrad.chain.kind import StageKind
from ckptgrad.execution.staged.account import moments, peak
from ckptgrad.execution.staged.programs import Order, Ready, Work, overwritable, ready
from ckptgrad.execution.staged.recorded import Recording, Step
from ckptgrad.graph.atoms import Atom
from ckptgrad.target.allocator import LARGEST_KEPT
from ckptgrad.target.target import Target

# Steps of a run, at most.
LONGEST = 4


class Part(NamedTuple):
    """One step of a run: values are numbered, those that the run is given first, then what its parts make in their order."""

    work: Work
    operands: tuple[int, ...]


@dataclass(frozen=True)
class RunWork:
    """Several steps, one after the other, each isolated from the others as in a program that is compiled whole.

    Attributes:
        parts: the steps.
        given: the number of operands.
        returned: the numbers of the values that are results.
    """

    parts: tuple[Part, ...]
    given: int
    returned: tuple[int, ...]

    @property
    def kind(self) -> StageKind:
        """That of its first part."""
        return self.parts[0].work.kind

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        functions = [part.work.function(among=True) for part in self.parts]

        def call(operands: Sequence[Any], earlier: Sequence[Any] = ()) -> list[Any]:
            values = [*operands]
            for part, function in zip(self.parts, functions, strict=True):
                # Repetitions are told from first runs, and put after them, by what came last.
                earlier = function([values[k] for k in part.operands], earlier)
                values += earlier
            return [values[k] for k in self.returned]

        return call

    def operands(self) -> list[Any]:
        structs: dict[int, Any] = {}
        for part in self.parts:
            structs.update(zip(part.operands, part.work.operands(), strict=True))
        return [structs[k] for k in range(self.given)]

    def results(self) -> list[Atom]:
        made = [atom for part in self.parts for atom in part.work.results()]
        return [made[k - self.given] for k in self.returned]


def in_runs(
    recording: Recording, programs: Mapping[Order, Ready], target: Target
) -> tuple[Recording, Mapping[Order, Ready]]:
    """The recording with runs of steps as one step each, where that saves mapping memory anew, and its programs.

    The most that is held at one moment is no more than before.
    """
    large = {order for order, program in programs.items() if program.temporary_bytes > LARGEST_KEPT}
    runs = _found(recording.steps, large)
    if all(len(run) == 1 for run in runs):
        return recording, programs
    limit = peak(moments(recording, programs))
    joined = [_joined(run) for run in runs]
    programs = {**programs, **ready([step.work for step in joined if isinstance(step.work, Order)], target)}
    account = moments(replace(recording, steps=tuple(joined)), programs)
    kept = [(step,) if moment.total <= limit else run for run, step, moment in zip(runs, joined, account, strict=True)]
    return replace(recording, steps=tuple(step for steps in kept for step in steps)), programs


def _found(steps: Sequence[Step], large: set[Order]) -> list[tuple[Step, ...]]:
    """The steps in runs; a run of more than one has at least two programs of those that are large."""
    runs: list[tuple[Step, ...]] = [(step,) for step in steps]
    if sum(step.work in large for step in steps) < 2:
        return runs
    numbers: dict[Any, int] = {}
    while True:
        pairs = [_pattern((*a, *b), numbers) if _may_join(a, b) else None for a, b in pairwise(runs)]
        often = _most_often(pairs)
        if often is None:
            break
        runs = _with_pairs(runs, pairs, often)
    apart: list[tuple[Step, ...]] = []
    for run in runs:
        apart += [run] if sum(step.work in large for step in run) > 1 else [(step,) for step in run]
    return apart


def _may_join(a: Sequence[Step], b: Sequence[Step]) -> bool:
    return len(a) + len(b) <= LONGEST and all(isinstance(step.work, Order) for step in (*a, *b))


def _pattern(steps: Sequence[Step], numbers: dict[Any, int]) -> int:
    """A number, equal for runs that do the same on other values."""
    local: dict[int, int] = {}

    def named(places: Iterable[int]) -> tuple[int, ...]:
        return tuple(local.setdefault(p, len(local)) for p in places)

    key = tuple((s.work, named(s.operands), named(s.results), tuple(sorted(named(s.dropped)))) for s in steps)
    return numbers.setdefault(key, len(numbers))


def _most_often(pairs: Sequence[int | None]) -> int | None:
    """The pattern with the most places that do not overlap, the first of several; None where each has one place only."""
    counts: Counter[int] = Counter()
    last: dict[int, int] = {}
    for k, pattern in enumerate(pairs):
        if pattern is not None and last.get(pattern) != k - 1:
            counts[pattern] += 1
            last[pattern] = k
    pattern, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return pattern if count > 1 else None


def _with_pairs(runs: Sequence[tuple[Step, ...]], pairs: Sequence[int | None], pattern: int) -> list[tuple[Step, ...]]:
    found: list[tuple[Step, ...]] = []
    k = 0
    while k < len(runs):
        joins = k < len(pairs) and pairs[k] == pattern
        found.append((*runs[k], *runs[k + 1]) if joins else runs[k])
        k += 2 if joins else 1
    return found


def _joined(run: Sequence[Step]) -> Step:
    """A run as one step; values that are dropped inside are no results, and its operands are held until it has finished."""
    if len(run) == 1:
        return run[0]
    made = {p for step in run for p in step.results}
    dropped = {p for step in run for p in step.dropped}
    given = [*dict.fromkeys(p for step in run for p in step.operands if p not in made)]
    number = {p: k for k, p in enumerate([*given, *(p for step in run for p in step.results)])}
    results = tuple(p for step in run for p in step.results if p not in dropped)
    orders = [step.work for step in run if isinstance(step.work, Order)]
    parts = [Part(order.work, tuple(number[p] for p in step.operands)) for order, step in zip(orders, run, strict=True)]
    work = RunWork(tuple(parts), len(given), tuple(number[p] for p in results))
    free = [k for k, p in enumerate(given) if p in dropped]
    order = Order(work, overwritable(work.operands(), free, work.results()), orders[0].device)
    return Step(run[0].action, order, tuple(given), results, tuple(sorted(dropped - made)))
