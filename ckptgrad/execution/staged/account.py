"""The account of a staged gradient: bytes that are held at every moment, beyond the arguments, on paper and as it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ckptgrad.chain.program import Program
from ckptgrad.errors import LedgerError
from ckptgrad.execution.staged.programs import Order, Ready
from ckptgrad.execution.staged.recorded import Recording
from ckptgrad.planning.schedule import Backward, Schedule
from ckptgrad.target.allocator import Resident

# The stream of programs; transfers have a stream each way.
COMPUTING = "computing"


@dataclass(frozen=True)
class Moment:
    """What one step holds.

    Attributes:
        action: the index of its action in the schedule.
        held: bytes held before it.
        taken: bytes that it takes when it starts: results that are written over nothing, and temporaries.
        temporary: the part of `taken` that the compiler certifies as its temporaries.
        given_back: bytes that are free once it has finished.
    """

    action: int
    held: int
    taken: int
    temporary: int
    given_back: int

    @property
    def total(self) -> int:
        """Bytes while it runs."""
        return self.held + self.taken


def moments(recording: Recording, programs: Mapping[Order, Ready]) -> tuple[Moment, ...]:
    """The account of a recording on paper, step by step, where each starts when the one before has finished.

    Raises:
        LedgerError: something is dropped twice, or what is held in the end is not what is returned.
    """
    size, held = recording.value_bytes, 0
    found: list[Moment] = []
    for step in recording.steps:
        program = programs[step.work] if isinstance(step.work, Order) else None
        temporary, over = (program.temporary_bytes, program.overwritten_bytes) if program else (0, 0)
        taken = temporary + sum(size[p] for p in step.results) - over
        given_back = temporary + sum(size[p] for p in step.dropped) - over
        found.append(Moment(step.action, held, taken, temporary, given_back))
        held += taken - given_back
        if held < 0:
            raise LedgerError(f"more is dropped than was held in action {step.action}")
    returned = sum(size[p] for p in (*recording.gradients, *recording.outputs))
    if held != returned:
        raise LedgerError(f"{held} bytes are held in the end, {returned} of them are returned")
    return tuple(found)


def expected_peak(program: Program, schedule: Schedule, timeline: Sequence[int]) -> int:
    """What a plan takes that runs step by step, from what it is predicted to hold at the worst moment of each action.

    Plans count all gradients from the start, as one program may hold them. Here each is held from the first backward that
    makes a part of it. Without recording the plan, and without asking a compiler.
    """
    last = {v: i for i, stage in enumerate(program.stages) for v in stage.gradients}
    made = [0] * len(program.stages)
    for v in program.wrt:
        if v in last:
            made[last[v]] += program.target.bytes_of(program.gradient_of(v))
    missing, most = sum(made), 0
    for action, held in zip(schedule, timeline, strict=True):
        if isinstance(action, Backward):
            missing -= made[action.stage]
        most = max(most, held - missing)
    return most


class _UnderWay(NamedTuple):
    """What has started: with what it finishes, and what it gives back then."""

    tokens: tuple[Any, ...]
    moment: Moment


class Account:
    """The books of one call: what may be held by what has started and is not known to have finished.

    Programs run ahead of Python.  What one of them drops counts as held until it is known to have finished, and what one of
    them takes from when it is started: so whatever order they run in, no more is held than these books say.

    Args:
        limit: bytes that are never exceeded.
        most_ahead: programs that may be under way.
        resident: the resident memory of this process, where what is held is a part of that.
    """

    def __init__(self, limit: int, most_ahead: int, resident: Resident | None = None) -> None:
        self.limit, self._most_ahead, self._resident = limit, most_ahead, resident
        self.held = 0
        # By stream: what is in one of them finishes in its order.
        self._under_way: dict[str, deque[_UnderWay]] = {}

    def start(self, taken: int, elsewhere: bool = False) -> None:
        """Make room for a program that takes so many bytes, waiting for earlier ones where there is none yet.

        Args:
            taken: the bytes.
            elsewhere: whether another thread allocates them, as for transfers.

        Raises:
            LedgerError: there is none, though all earlier ones have finished.
        """
        if self._is_full(taken):
            self._note_finished()
        while self._is_full(taken):
            streams = [stream for stream in self._under_way.values() if stream]
            if not streams:
                raise LedgerError(
                    f"{self.held} bytes are held, and {taken} more are needed, of {self.limit} that are allowed"
                )
            self._finish_one(streams[0])
            self._note_finished()
        if self._resident is not None:
            self._resident.make_room(taken, self.held, elsewhere)
        self.held += taken

    def started(self, token: Any, moment: Moment, stream: str = COMPUTING) -> None:
        """Note that a program or a transfer is under way, which gives back what its moment says when its token is there.

        What is sent is given back no sooner than the programs before it have finished, which may read it too.
        """
        programs = self._under_way.get(COMPUTING)
        tokens = (token, programs[-1].tokens[0]) if programs and stream != COMPUTING else (token,)
        self._under_way.setdefault(stream, deque()).append(_UnderWay(tokens, moment))

    def finish(self) -> None:
        """Wait for all that is under way."""
        for stream in self._under_way.values():
            while stream:
                self._finish_one(stream)

    def forget(self) -> None:
        """Let go of the tokens of what is under way."""
        self._under_way.clear()

    def _is_full(self, taken: int) -> bool:
        programs = self._under_way.get(COMPUTING, ())
        return self.held + taken > self.limit or len(programs) >= self._most_ahead

    def _note_finished(self) -> None:
        for stream in self._under_way.values():
            while stream and all(token.is_ready() for token in stream[0].tokens):
                self._finish_one(stream)

    def _finish_one(self, stream: deque[_UnderWay]) -> None:
        tokens, moment = stream.popleft()
        for token in tokens:
            token.block_until_ready()
        self.held -= moment.given_back


def peak(account: Sequence[Moment]) -> int:
    """The most bytes at one moment."""
    return max(moment.total for moment in account)
