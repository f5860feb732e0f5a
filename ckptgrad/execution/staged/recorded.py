"""A schedule recorded as steps: which programs run in which order, on which values, and when each value is dropped.

The interpreter of schedules runs on values that are names only, so that what the steps compute is what it computes.  A value
is dropped after the last step that reads it.  One that is sent to a tier and fetched again has another number then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import dtypes

from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.program import Program
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.interpreter import Execution
from ckptgrad.execution.stage_functions import separate_functions
from ckptgrad.execution.staged.programs import BackwardWork, CopyWork, FillWork, ForwardWork, Order, Work, overwritable
from ckptgrad.graph.atoms import Atom
from ckptgrad.graph.graph import Constant, Variable
from ckptgrad.graph.value_types import struct
from ckptgrad.planning.schedule import Backward, Schedule
from ckptgrad.stage.partition import Partition, Run
from ckptgrad.target.platform import Isolation

# The number of a value that is on a tier and not on the device.
AWAY = -1


class Value:
    """A value that some step makes, or that is there from the start: a name for the array that it will be.

    Attributes:
        place: its number; another one after it was fetched.
        copy: of what was sent to a tier, the tier and the number under which it has it.
    """

    __slots__ = ("copy", "place")

    def __init__(self, place: int) -> None:
        self.place = place
        self.copy: Transfer | None = None


class Transfer(NamedTuple):
    """What moves: to a tier, from it, or, where it is dropped, nowhere.

    `key` is the number under which the tier has it, that of the value when it was sent.
    """

    way: Literal["put", "get", "drop"]
    tier: int
    key: int


@dataclass(frozen=True)
class Step:
    """One program run on values, which are numbered, or one transfer.

    Attributes:
        action: the index of the action that it belongs to; that after the last for what is done at the end.
        work: the program, or the transfer.
        operands, results: the values that it reads and makes.
        dropped: the values no longer needed after it, including those that are written over.
    """

    action: int
    work: Order | Transfer
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Recording:
    """A schedule as steps.

    Attributes:
        steps: in their order.
        arguments: the number of values that are the leaves of the call, the first ones.
        constants: values that are captured: these come next.
        values: the number of all values.
        gradients, outputs: the values that are returned, each made by a step and by no other name.
        value_bytes: bytes of each value that a step makes.
        fetched: the structs of values that are fetched.
    """

    steps: tuple[Step, ...]
    arguments: int
    constants: dict[int, Any]
    values: int
    gradients: tuple[int, ...]
    outputs: tuple[int, ...]
    value_bytes: dict[int, int]
    fetched: dict[int, Any]

    @property
    def orders(self) -> list[Order]:
        """The programs of the steps, in their order."""
        return [step.work for step in self.steps if isinstance(step.work, Order)]

    @property
    def largest_transfer(self) -> int:
        """Bytes of the largest value that is sent; 0 where none is."""
        sizes = (self.value_bytes[step.work.key] for step in self.steps if isinstance(step.work, Transfer))
        return max(sizes, default=0)


def record(program: Program, schedule: Schedule, device: Any = None) -> Recording:
    """The steps of a schedule for a program, for the target's first device or for another one."""
    recorder = _Recorder(program)
    seeded = False
    for index, action in enumerate(schedule):
        recorder.action = index
        if not seeded and isinstance(action, Backward):
            recorder.seed_ones()
            seeded = True
        recorder.run((action,))
        recorder.forget_order()
    return recorder.recording(len(schedule), device)


@dataclass(frozen=True)
class _Draft:
    action: int
    work: Work | Transfer
    operands: tuple[int, ...]
    results: tuple[int, ...]


class _Recorder(Execution):
    """The interpreter, on values; calls of stages become steps."""

    def __init__(self, program: Program) -> None:
        inputs = program.graph.inputs
        super().__init__(program, [Value(k) for k in range(len(inputs))], isolation=Isolation.NONE)
        # Steps are programs of their own, in the order of the schedule.
        self._sums_after = None
        self.functions = {kind: _Recorded(kind, self) for kind in program.kinds}
        self.action = 0
        self._drafts: list[_Draft] = []
        self._count = len(inputs)
        self._constants: dict[int, Any] = {}
        self._place_of: dict[int, int] = {}
        self._definitions: dict[Work, tuple[list[Any], list[Atom], tuple[int, ...]]] = {}
        self._bytes: dict[int, int] = {}
        self._kind = program.stages[-1].kind
        self._fetched: dict[int, Any] = {}

    def emit(self, work: Work, operands: Sequence[Any]) -> list[Value]:
        """One more step; its results."""
        _, _, sizes = self._definition(work)
        places = range(self._count, self._count + len(sizes))
        self._count += len(sizes)
        self._bytes.update(zip(places, sizes, strict=True))
        self._drafts.append(_Draft(self.action, work, tuple(map(self._place, operands)), tuple(places)))
        return [Value(k) for k in places]

    def seed_ones(self) -> None:
        """Set the cotangents of the seeds to one."""
        for v in self.program.seeds:
            self.table[v] = self.fill(v, 1)

    def fill(self, v: Variable, number: float) -> Any:
        return self.emit(FillWork(self._kind, v, number), ())[0]

    def offload(self, boundary: int, tier: int) -> None:
        for _, value in self._sendable(boundary):
            if value.copy is None:
                value.copy = Transfer("get", tier, value.place)
                self._move(Transfer("put", tier, value.place), (value.place,), ())
            value.place = AWAY

    def fetch(self, boundary: int, tier: int) -> None:
        for v, value in self._sendable(boundary):
            if value.copy is not None and value.place == AWAY:
                value.place = self._count
                self._count += 1
                self._bytes[value.place] = self._bytes[value.copy.key]
                self._fetched[value.place] = struct(v.aval)
                self._move(value.copy, (), (value.place,))

    def free(self, boundary: int) -> None:
        for _, value in self._sendable(boundary):
            if value.copy is not None:
                self._move(value.copy._replace(way="drop"), (), ())
        super().free(boundary)

    def _sendable(self, boundary: int) -> list[tuple[Variable, Value]]:
        """The values of a boundary that a tier can keep: keys of random numbers, which are small, stay."""
        pairs = self.boundaries.get(boundary, {}).items()
        return [(v, x) for v, x in pairs if isinstance(x, Value) and not jnp.issubdtype(v.aval.dtype, dtypes.extended)]

    def _move(self, transfer: Transfer, operands: tuple[int, ...], results: tuple[int, ...]) -> None:
        self._drafts.append(_Draft(self.action, transfer, operands, results))

    def recording(self, end: int, device: Any) -> Recording:
        """What was recorded, once all actions have run."""
        self.action = end
        given = {*range(len(self.program.graph.inputs))}
        taken: set[int] = set()

        def own(value: Any, like: Atom) -> int:
            place = self._place(value)
            if place in given or place in self._constants or place in taken:
                place = self.emit(CopyWork(self._kind, like), (value,))[0].place
            taken.add(place)
            return place

        gradients = tuple(own(self.table[v] if v in self.table else self.fill(v, 0), v) for v in self.program.wrt)
        outputs = tuple(own(a.value if isinstance(a, Constant) else self.env[a], a) for a in self.program.graph.outputs)
        steps = self._steps(taken, {*given, *self._constants}, device)
        return Recording(steps, len(given), self._constants, self._count, gradients, outputs, self._bytes, self._fetched)

    def _steps(self, returned: set[int], given: set[int], device: Any) -> tuple[Step, ...]:
        """The drafts with what each drops, from the last to the first."""
        steps: list[Step] = []
        needed = set(returned)
        for draft in reversed(self._drafts):
            ends = {*draft.operands, *draft.results} - needed - given
            needed.update(draft.operands)
            if isinstance(draft.work, Transfer):
                steps.append(Step(draft.action, draft.work, draft.operands, draft.results, tuple(sorted(ends))))
                continue
            structs, results, _ = self._definition(draft.work)
            free = [k for k, p in enumerate(draft.operands) if p in ends and draft.operands.count(p) == 1] if ends else []
            over = overwritable(structs, free, results) if free else ()
            order = Order(draft.work, over, device)
            steps.append(Step(draft.action, order, draft.operands, draft.results, tuple(sorted(ends))))
        return tuple(reversed(steps))

    def _definition(self, work: Work) -> tuple[list[Any], list[Atom], tuple[int, ...]]:
        if work not in self._definitions:
            results = work.results()
            sizes = tuple(map(self.program.target.bytes_of, results))
            self._definitions[work] = work.operands(), results, sizes
        return self._definitions[work]

    def _place(self, value: Any) -> int:
        if isinstance(value, Value):
            if value.place == AWAY:
                raise ScheduleError("a boundary is read while it is on a tier; it must be fetched before")
            return value.place
        # What is captured is no value yet. It is kept, so that its identity stays its own.
        place = self._place_of.get(id(value))
        if place is None:
            place = self._place_of[id(value)] = self._count
            self._constants[place] = value
            self._count += 1
        return place


class _Recorded:
    """The functions of a kind of stage, each call of which becomes a step."""

    def __init__(self, kind: StageKind, recorder: _Recorder) -> None:
        self._kind, self._functions, self._recorder = kind, separate_functions(kind), recorder

    def part(self, keep: int | None) -> Partition:
        return self._functions.part(keep)

    def forward(self, keep: int | None, again: bool = False, output: bool = True) -> tuple[Run, Callable[..., list[Value]]]:
        run, _ = self._functions.forward(keep, again, output)
        work = ForwardWork(self._kind, keep, again, output)

        def call(values: Sequence[Any], earlier: Sequence[Any] = ()) -> list[Value]:
            return self._recorder.emit(work, values)

        return run, call

    def backward(self, keep: int, summed: tuple[int, ...] = ()) -> tuple[Run, Callable[..., list[Value]]]:
        run, _ = self._functions.backward(keep, summed)
        work = BackwardWork(self._kind, keep, summed)

        def call(operands: tuple[Sequence[Any], Sequence[Any]], earlier: Sequence[Any] = ()) -> list[Value]:
            values, totals = operands
            return self._recorder.emit(work, [*values, *totals])

        return run, call
