"""What plans took once they were compiled and run: remembered as long as their stages live.

A function that is traced again gets another plan with the same kinds of stages and an equal schedule. That plan compiles
to an equal program, so what was observed of one holds for the other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from weakref import ReferenceType, WeakKeyDictionary, ref

from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.program import Program
from ckptgrad.planning.schedule import Schedule

# Outcomes that are kept for each first stage.
MOST_OUTCOMES = 64


@dataclass(frozen=True)
class Outcome:
    """What a plan took.

    Attributes:
        peak_bytes: certified bytes beyond the arguments.
        seconds: of one call; None where it was not timed.
        gradient_error: of a plan that keeps inexact values, the largest relative difference of its gradient from that of
            `jax.grad`, as `validate` measured it for one call; None where it did not.
    """

    peak_bytes: int
    seconds: float | None = None
    gradient_error: float | None = None


_Key = tuple[tuple[ReferenceType[StageKind], ...], Schedule]


class Outcomes:
    """Outcomes by the stages of a program and its schedule; stages are held weakly, the oldest outcomes are dropped."""

    def __init__(self, most: int = MOST_OUTCOMES) -> None:
        self._most = most
        self._by_first_stage: WeakKeyDictionary[StageKind, OrderedDict[_Key, Outcome]] = WeakKeyDictionary()
        self._lock = Lock()

    @property
    def stages(self) -> int:
        """The number of first stages that live and have outcomes."""
        return len(self._by_first_stage)

    def get(self, program: Program, schedule: Schedule) -> Outcome | None:
        """The last outcome of a plan with these stages and this schedule, or None."""
        with self._lock:
            outcomes = self._by_first_stage.get(program.stages[0].kind)
            return None if outcomes is None else outcomes.get(_key(program, schedule))

    def put(self, program: Program, schedule: Schedule, outcome: Outcome) -> None:
        """Remember an outcome, and of the one before what the new one does not say about the gradient's error."""
        with self._lock:
            outcomes = self._by_first_stage.setdefault(program.stages[0].kind, OrderedDict())
            key = _key(program, schedule)
            if outcome.gradient_error is None and key in outcomes:
                outcome = replace(outcome, gradient_error=outcomes[key].gradient_error)
            outcomes[key] = outcome
            while len(outcomes) > self._most:
                outcomes.popitem(last=False)


def _key(program: Program, schedule: Schedule) -> _Key:
    return tuple(ref(stage.kind) for stage in program.stages), schedule


# Of this process.
OUTCOMES = Outcomes()
