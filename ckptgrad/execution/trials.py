# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The plans that are tried for one call, with what the compiler allocates for the program of each.

What it allocated in an earlier process is remembered on disk, so that a plan that did not fit is not compiled again.  The
program is its own key: its text as it is lowered, beside the target, the compiler's options and the versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax

from ckptgrad.chain.kind import StageKind
from ckptgrad.errors import BudgetError, ProcessesError
from ckptgrad.once import once
from ckptgrad.planning.schedule import Action
from ckptgrad.results.learned import Expected, Learned, number_of, text_of
from ckptgrad.results.outcomes import OUTCOMES, Outcome
from ckptgrad.results.plan import Plan
from ckptgrad.target.allocated import Memory
from ckptgrad.target.processes import ALONE, Processes
from ckptgrad.target.remember import recalled, remember, remembered
from ckptgrad.target.target import Target

# Uniform plans that are tried where the compiler takes far more for a plan than predicted.
MOST_UNIFORM = 3

# Plans near the smallest one are predicted to take so many times as much.
NEAR_LEAST = (1.05, 1.1, 1.2, 1.35, 1.5)

# Plans that are kept while others are tried.
MOST_PLANNED = 2

_QUANTITIES = tuple(f"{field.name} of a whole program" for field in fields(Memory))

# What XLA says first where a program does not fit into a device's memory.
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


# The actions of what is planned, plan by plan.
Actions: TypeAlias = tuple[tuple[Action, ...], ...]
# These, and whether the stages are fenced, and whether by calls.
_Key: TypeAlias = tuple[Actions, bool, bool]


class Planned(Protocol):
    """What is compiled as one program: a plan, or a step with several (`parts`, at least one)."""

    @property
    def parts(self) -> tuple[Plan, ...]: ...
    @property
    def fenced(self) -> bool: ...
    @property
    def called(self) -> bool: ...
    @property
    def peak_bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def least_seconds(self) -> float: ...


AnyPlan = TypeVar("AnyPlan", bound=Planned)
_Made_co = TypeVar("_Made_co", bound=Planned, covariant=True)


def actions_of(planned: Planned) -> Actions:
    """The actions of what is planned, plan by plan."""
    return tuple(plan.schedule.actions for plan in planned.parts)


def target_of(planned: Planned) -> Target:
    """What it is compiled for."""
    return planned.parts[0].program.target


def _backwards(planned: Planned) -> set[tuple[StageKind, int]]:
    """The save options from which the stages of what is planned run backward, by their kinds."""
    return {(part.program.stages[i].kind, keep) for part in planned.parts for i, keep in part.schedule.kept.items()}


class Build(Protocol[_Made_co]):
    """From an aim in bytes (None: no budget) to a plan within it and a jitted function.

    `fenced` is whether its stages are kept apart, `called` whether by calls where the platform has another way, `policy`
    another one than asked for.
    """

    def __call__(
        self, limit: int | None, fenced: bool = True, policy: str | None = None, called: bool = False
    ) -> tuple[_Made_co, Any]: ...


@runtime_checkable
class KnownOnPaper(Protocol):
    """What takes, to a few bytes, what can be told without lowering it: from what its plan holds during each action."""

    def expected_peak(self, timeline: Sequence[int]) -> int: ...


class _Program:
    """A lowered program.

    What is remembered counts for a process alone only: several compile each program, and the fullest of them counts.

    Attributes:
        lowered: the program before it is compiled.
        executable: what it was compiled to; None as long as what is remembered was enough.
        memory: what the compiler allocates, or allocated before.
    """

    def __init__(self, target: Target, lowered: jax.stages.Lowered, believes: bool, processes: Processes) -> None:
        self._target, self.lowered, self._text = target, lowered, lowered.as_text()
        self._processes = processes
        self.executable: Any = None
        known = recalled(target, _QUANTITIES, self._text) if believes and not processes.several else None
        self.memory = self.compile() if known is None else Memory(*map(int, known))

    def compile(self) -> Memory:
        """What the compiler allocates, read from the executable."""
        if self.executable is None:
            digest = hashlib.sha256(self._text.encode()).hexdigest()
            taken = self._processes.each(f"the program whose text has the hash {digest[:12]}", self._compile_here)
            self.memory = max(taken, key=lambda memory: (memory.peak_bytes, memory.argument_bytes))
        return self.memory

    def seconds(self) -> float | None:
        """The seconds of the compiled program, as they are read from its instructions; None where that cannot be done."""
        target = self._target
        if target.platform.compiled_seconds is None:
            return None
        return max(self._processes.each("the seconds of a program", self._seconds_here))

    def _seconds_here(self) -> float:
        def read() -> float:
            self.compile()
            seconds = self._target.compiled_seconds(self.executable)
            assert seconds is not None
            return seconds

        return remembered(self._target, f"seconds of a whole program by {self._target.priced_by}", self._text, read)

    def _compile_here(self) -> Memory:
        self.executable = self._target.compile(self.lowered)
        memory = self._target.allocated(self.executable)
        remember(self._target, _QUANTITIES, self._text, astuple(memory))
        return memory


@dataclass(frozen=True)
class Trial(Generic[AnyPlan]):
    """A plan, and the program that it becomes.

    Attributes:
        plan: what was planned.
        program: what it is lowered to.
        expected: bytes that were expected of it before it was compiled; None where plans are several, or known on paper.
    """

    plan: AnyPlan
    program: _Program
    expected: Expected | None = None

    @property
    def peak_bytes(self) -> int:
        """Bytes beyond the arguments: temporaries plus outputs."""
        return self.program.memory.peak_bytes

    @property
    def temporary_bytes(self) -> int:
        """Bytes of temporaries."""
        return self.program.memory.temporary_bytes

    @once
    def seconds(self) -> float:
        """Estimated seconds: those of the plan, or, where its stages are open, of the program as it is compiled.

        Where these cannot be read from the program, it is taken to be as fast as any plan with fences can be.
        """
        if self.plan.fenced:
            return self.plan.seconds
        seconds = self.program.seconds()
        return self.plan.least_seconds if seconds is None else seconds


class Trials(Generic[AnyPlan]):
    """The plans of one call that were tried.

    Args:
        build: what makes a plan for an aim.
        args, kwargs: abstract arguments.
        processes: those that compile the programs together.

    Attributes:
        least: the actions of the smallest plan and the stage that sets its peak, once an aim was below it.
    """

    def __init__(self, build: Build[AnyPlan], args: Any, kwargs: Any, processes: Processes = ALONE) -> None:
        self.build, self._args, self._kwargs, self._processes = build, args, kwargs, processes
        self.least: tuple[Actions, int | None] | None = None
        self._believes = True
        self._tried: dict[_Key, Trial[AnyPlan]] = {}
        self._compiled: dict[_Key, _Program] = {}
        self._learned: dict[str, Learned] = {}
        # Of the last few aims.
        self._planned: dict[int, tuple[AnyPlan, Any]] = {}

    @property
    def count(self) -> int:
        """The number of distinct plans that were tried, compiled or remembered."""
        return len(self._tried)

    @property
    def compilations(self) -> int:
        """The number of programs that were compiled."""
        return sum(program.executable is not None for program in self._programs())

    @property
    def smallest(self) -> Trial[AnyPlan]:
        """Of all that were tried, the one of the fewest bytes."""
        return min(self._tried.values(), key=lambda trial: trial.peak_bytes)

    def planned(self, aim: int) -> tuple[AnyPlan, Any]:
        """The plan for an aim; the smallest plan if the aim is below it, since the prediction may be cautious."""
        found = self._planned.pop(aim, None)
        if found is None:
            found = self._plan_for(aim)
        self._planned[aim] = found
        while len(self._planned) > MOST_PLANNED:
            del self._planned[next(iter(self._planned))]
        return found

    def _plan_for(self, aim: int) -> tuple[AnyPlan, Any]:
        try:
            return self.build(aim)
        except BudgetError as error:
            plan, jitted = self.build(max(1, error.smallest))
            self.least = actions_of(plan), error.stage
            return plan, jitted

    @once
    def _smallest_plan(self) -> AnyPlan:
        return self.planned(1)[0]

    @once
    def asked(self) -> tuple[AnyPlan, Any] | None:
        """The fastest plan of the smallest ones (`NEAR_LEAST`) that `is_asked`."""
        least = self._smallest_plan.peak_bytes
        near = [self.planned(int(times * least)) for times in (1.0, *NEAR_LEAST)]
        return min((pair for pair in near if self.is_asked(pair[0])), key=lambda pair: pair[0].seconds, default=None)

    def is_asked(self, plan: AnyPlan) -> bool:
        """Whether a plan runs no other backwards than the smallest one: those that the compiler was asked about."""
        return _backwards(plan) <= _backwards(self._smallest_plan)

    def uniform(self, aim: int, budget: int) -> Trial[AnyPlan] | None:
        """The first that takes no more than `budget` of the fastest few uniform plans for an aim; None where none does."""
        for _ in range(MOST_UNIFORM):
            try:
                trial = self.tried(*self.build(aim, policy="uniform"))
            except BudgetError:
                return None
            if trial.peak_bytes <= budget:
                return trial
            aim = trial.plan.peak_bytes - 1
        return None

    def taken(self, plan: AnyPlan, jitted: Any) -> int:
        """The bytes that a plan takes: as its program is compiled, or on paper where that is known as well."""
        if isinstance(jitted, KnownOnPaper) and isinstance(plan, Plan):
            return jitted.expected_peak(plan.simulation.timeline) + plan.moving_bytes
        return self.tried(plan, jitted).peak_bytes

    def tried(self, plan: AnyPlan, jitted: Any) -> Trial[AnyPlan]:
        """A plan with what its program takes; each schedule is lowered once."""
        key = actions_of(plan), plan.fenced, plan.called
        if key in self._tried:
            return replace(self._tried[key], plan=plan)
        learned = None if len(plan.parts) > 1 or isinstance(jitted, KnownOnPaper) else self._learned_of(plan)
        number = number_of(key[0])
        expected = learned and learned.expected(number, plan.peak_bytes)
        program = self._compiled.get(key)
        if program is None:
            target = target_of(plan)
            lowered = target.lower(jitted, *self._args, **self._kwargs)
            program = _Program(target, lowered, self._believes, self._processes)
        self._tried[key] = trial = Trial(plan, program, expected)
        if learned is not None:
            learned.add(number, plan.peak_bytes, trial.peak_bytes)
        self._observe(trial)
        return trial

    def _learned_of(self, plan: AnyPlan) -> Learned:
        """What the compiler took for other plans of this one's chain, whose stages are kept apart in the same way."""
        (part,) = plan.parts
        program = part.program
        text = text_of(part.costs, f"{program.devices} devices, fenced {plan.fenced}, called {plan.called}")
        if text not in self._learned:
            on_disk = self._believes and not self._processes.several
            self._learned[text] = Learned(program.target, text, on_disk)
        return self._learned[text]

    def called(self, plan: AnyPlan) -> Trial[AnyPlan] | None:
        """A plan for the bytes of this one with its stages as calls; None where the platform has no use for that."""
        program = plan.parts[0].program
        if program.devices == 1 or not program.target.platform.calls_if_spread:
            return None
        return self.tried(*self.build(plan.peak_bytes, called=True))

    @property
    def calls_take_more(self) -> bool:
        """Whether a plan that was tried takes more with its stages as calls than with barriers between them."""
        called = [(actions, trial) for (actions, _, is_called), trial in self._tried.items() if is_called]
        beside = ((trial, self._tried.get((actions, True, False))) for actions, trial in called)
        return any(fenced is not None and trial.peak_bytes > fenced.peak_bytes for trial, fenced in beside)

    def opened(self) -> Trial[AnyPlan] | None:
        """The fastest plan with its stages open to each other; None where that takes more than the device's memory."""
        plan, jitted = self.build(None, fenced=False)
        target = target_of(plan)
        try:
            trial = self.tried(plan, jitted)
        except (jax.errors.JaxRuntimeError, ProcessesError) as error:
            if _OUT_OF_MEMORY in str(error):
                return None
            raise
        memory = trial.program.memory
        available = self._processes.each("the bytes of a device", lambda: target.memory_bytes)
        return trial if all(b is None or memory.peak_bytes + memory.argument_bytes <= b for b in available) else None

    def confirmed(self, trial: Trial[AnyPlan]) -> bool:
        """Whether the executable takes what was remembered of it; if not, nothing that is remembered is believed any more.

        What was tried is forgotten then, so that the search can begin again.
        """
        remembered = trial.program.memory
        if trial.program.compile() == remembered:
            self._observe(trial)
            return True
        self._compiled = {key: t.program for key, t in self._tried.items() if t.program.executable is not None}
        self._believes, self._tried, self._planned, self._learned, self.least = False, {}, {}, {}, None
        return False

    def _programs(self) -> Iterable[_Program]:
        return {*self._compiled.values(), *(trial.program for trial in self._tried.values())}

    def _observe(self, trial: Trial[AnyPlan]) -> None:
        plan = trial.plan
        if isinstance(plan, Plan) and plan.fenced and trial.program.executable is not None:
            OUTCOMES.put(plan.program, plan.schedule, Outcome(trial.peak_bytes))
