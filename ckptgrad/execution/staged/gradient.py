# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A gradient as a staged program: lowered, compiled and asked for its bytes like one that is compiled whole.

`StagedGradient.lower(...).compile()` is to a plan what `jax.jit(...).lower(...).compile()` is: the certifier
(`execution.certify`) needs to know no more.  Running it executes the steps of the plan one after the other, on arrays that
are dropped as soon as no step needs them.  Does not: run inside a transformation, or on several devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ckptgrad.chain.program import Program
from ckptgrad.errors import MismatchError, StagedError
from ckptgrad.execution.staged.account import Account, Moment, expected_peak, moments, peak
from ckptgrad.execution.staged.programs import Order, Ready, ready
from ckptgrad.execution.staged.progress import OnProgress, shown
from ckptgrad.execution.staged.recorded import Recording, Step, Transfer, record
from ckptgrad.execution.staged.runs import in_runs
from ckptgrad.execution.staged.tokens import interruptible
from ckptgrad.execution.tiers.mover import Mover, Moving
from ckptgrad.execution.tiers.tier import Tier
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.planning.schedule import Schedule
from ckptgrad.target.allocator import Resident, keeping

# Programs that are under way at once, at most: beyond these Python gains nothing by running ahead.
MOST_AHEAD = 64

# From gradients of the program's arguments and its outputs to what the caller gets.
Assemble = Callable[[Sequence[Any], Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class StagedGradient:
    """A plan's gradient, to be compiled stage by stage.

    Attributes:
        program: the chain.
        schedule: of the plan.
        assemble: makes of the program's results what the caller gets.
        progress: as the option of `Request`.
        tiers: by their numbers in the schedule.
        moving: bytes for values on their way to tiers and back, beside what the schedule holds.
    """

    program: Program
    schedule: Schedule
    assemble: Assemble
    progress: bool | OnProgress = False
    tiers: tuple[Tier, ...] = ()
    moving: int = 0

    def expected_peak(self, timeline: Sequence[int]) -> int:
        """As `account.expected_peak`."""
        return expected_peak(self.program, self.schedule, timeline)

    def lower(self, *args: Any, **kwargs: Any) -> StagedLowered:
        """The steps for these arguments, arrays or structs.

        Raises:
            StagedError: the program runs on several devices, or a custom rule captures a value that is being traced.
        """
        if self.program.devices > 1:
            raise StagedError(
                f"a program on {self.program.devices} devices is not run stage by stage; use runtime='compiled'"
            )
        leaves, tree = jax.tree.flatten((args, kwargs))
        device = _device(leaves)
        recording = record(self.program, self.schedule, device)
        if any(isinstance(x, Tracer) for x in self.program.graph.constants.values()):
            raise StagedError.inside_a_transformation()
        if any(isinstance(x, Tracer) for x in recording.constants.values()):
            raise StagedError(
                "a custom derivative rule reads a value that was computed outside of it while the function was traced, and "
                "that is gone when the rule runs: pass it to the rule as an argument, or make it with NumPy"
            )
        recording = replace(recording, constants=_as_they_are(recording.constants, device))
        programs = ready(recording.orders, self.program.target)
        return StagedLowered(self, recording, programs, tree, device)


@dataclass(frozen=True, eq=False)
class StagedLowered:
    """The steps of a staged gradient, and their programs."""

    gradient: StagedGradient
    recording: Recording
    programs: Mapping[Order, Ready]
    tree: Any
    device: Any = None

    @property
    def runs_on(self) -> Any:
        """The device that it runs on."""
        return self.device or self.gradient.program.target.devices[0]

    def as_text(self) -> str:
        """The steps and their programs as text: equal for equal ones."""
        numbers = {order: k for k, order in enumerate(self.programs)}
        steps = (
            f"{numbers[s.work] if isinstance(s.work, Order) else s.work} {s.operands} {s.results} {s.dropped}"
            for s in self.recording.steps
        )
        distinct = dict.fromkeys(program.text for program in self.programs.values())
        return "\n".join(["staged", *steps, *distinct])

    def compile(self, compiler_options: Any = None) -> StagedExecutable:
        """The programs are compiled already, with the options of the target."""
        return StagedExecutable(self, moments(self.recording, self.programs))


@dataclass(frozen=True)
class MemoryStats:
    """Bytes, by the names of `jax.stages.Compiled.memory_analysis()`."""

    temp_size_in_bytes: int
    output_size_in_bytes: int
    argument_size_in_bytes: int
    alias_size_in_bytes: int = 0
    host_temp_size_in_bytes: int = 0


class StagedExecutable:
    """A gradient that runs step by step.

    Attributes:
        account: what each step holds, beyond the arguments.
    """

    def __init__(self, lowered: StagedLowered, account: tuple[Moment, ...]) -> None:
        self.account = account
        self._lowered = lowered
        self._gradient, self._recording, self._tree = lowered.gradient, lowered.recording, lowered.tree
        self._device = lowered.runs_on
        self._in_process = self._device.platform == "cpu"
        self._largest = max((moment.temporary for moment in account), default=0) if self._in_process else 0
        self._calls: list[Any] = [
            lowered.programs[step.work].executable if isinstance(step.work, Order) else None
            for step in lowered.recording.steps
        ]

    @property
    def peak_bytes(self) -> int:
        """The most bytes at one moment, beyond the arguments; with those of one value on its way each way, or as many as the
        plan has room for."""
        return peak(self.account) + min(self._gradient.moving, 2 * self._recording.largest_transfer)

    def memory_analysis(self) -> MemoryStats:
        """Its bytes, as those of a compiled program."""
        program, recording = self._gradient.program, self._recording
        outputs = sum(recording.value_bytes[p] for p in (*recording.gradients, *recording.outputs))
        return MemoryStats(self.peak_bytes - outputs, outputs, program.target.total_bytes(program.graph.inputs))

    def as_text(self) -> str:
        """As that of `StagedLowered`."""
        return self._lowered.as_text()

    def in_runs(self) -> StagedExecutable:
        """The same with runs of steps as one program each where that is faster; it takes no more bytes."""
        if self._device.platform != "cpu":
            return self
        recording, programs = in_runs(self._recording, self._lowered.programs, self._gradient.program.target)
        return replace(self._lowered, recording=recording, programs=programs).compile()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient; all of its programs have finished when it is returned.

        Raises:
            MismatchError: the arguments are not of the types that it was compiled for.
            StagedError: it is called inside a transformation.
            LedgerError: more would be held than is certified.
        """
        leaves, tree = jax.tree.flatten((args, kwargs))
        self._check(leaves, tree)
        values: list[Any] = [None] * self._recording.values
        values[: len(leaves)] = [
            x if isinstance(x, jax.Array) else jnp.asarray(x, v.aval.dtype) for x, v in self._paired(leaves)
        ]
        for place, constant in self._recording.constants.items():
            values[place] = constant
        resident = Resident(self.peak_bytes) if self._in_process else None
        try:
            # Programs that are compiled run as such where jax.disable_jit has others run operation by operation.
            with (
                shown(self._gradient.progress) as on_progress,
                self._mover() as mover,
                keeping(self._largest),
                jax.disable_jit(False),
            ):
                self._run(values, mover, resident, on_progress)
            return self._returned(values)
        finally:
            # A traceback may hold on to this frame.
            values.clear()
            leaves.clear()
            if resident is not None:
                resident.end()

    def _mover(self) -> Mover:
        """What moves values to the tiers, open for one call."""
        tiers = self._gradient.tiers if self._recording.largest_transfer else ()
        return Mover(tiers, self._device)

    def _run(self, values: list[Any], mover: Mover, resident: Resident | None, on_progress: OnProgress | None) -> None:
        account, count = Account(self.peak_bytes, MOST_AHEAD, resident), len(self._calls)
        made: Any = None
        try:
            for done, (step, call, moment) in enumerate(
                zip(self._recording.steps, self._calls, self.account, strict=True), 1
            ):
                account.start(moment.taken, isinstance(step.work, Transfer))
                if isinstance(step.work, Transfer):
                    self._move(step, values, mover, account, moment)
                else:
                    for place in step.operands:
                        _arrived(values, place)
                    issued = time.perf_counter()
                    with interruptible():
                        made = call(*[values[place] for place in step.operands])
                    account.started(made[0], moment)
                    mover.computes(step.work, made[0], issued)
                    for place, value in zip(step.results, made[1:], strict=True):
                        values[place] = value
                    made = value = None
                for place in step.dropped:
                    values[place] = None
                if on_progress is not None:
                    on_progress(done, count)
            account.finish()
        finally:
            made = value = None
            account.forget()

    def _move(self, step: Step, values: list[Any], mover: Mover, account: Account, moment: Moment) -> None:
        assert isinstance(step.work, Transfer)
        way, tier, key = step.work
        if way == "drop":
            mover.drop(tier, key)
        elif way == "put":
            account.started(mover.put(tier, key, _arrived(values, step.operands[0])), moment, way)
        else:
            (place,) = step.results
            values[place] = mover.get(tier, key, self._recording.fetched[place])
            account.started(values[place], moment, way)

    def _returned(self, values: list[Any]) -> Any:
        program, recording = self._gradient.program, self._recording
        gradients = [like_aval(values[p], v.aval) for p, v in zip(recording.gradients, program.wrt, strict=True)]
        outputs = [like_aval(values[p], a.aval) for p, a in zip(recording.outputs, program.graph.outputs, strict=True)]
        return self._gradient.assemble(gradients, outputs)

    def _paired(self, leaves: Sequence[Any]) -> zip[tuple[Any, Any]]:
        return zip(leaves, self._gradient.program.graph.inputs, strict=True)

    def _check(self, leaves: Sequence[Any], tree: Any) -> None:
        if tree != self._tree:
            raise MismatchError(f"this gradient was compiled for arguments of the structure {self._tree}, not {tree}")
        if any(isinstance(x, Tracer) for x in leaves):
            raise StagedError.inside_a_transformation()
        for k, (leaf, v) in enumerate(self._paired(leaves)):
            found, aval = jax.typeof(leaf), v.aval
            if (found.shape, found.dtype) != (aval.shape, aval.dtype):
                names = self._gradient.program.arguments
                named = names[k] if k < len(names) else f"leaf {k} of the arguments"
                raise MismatchError(f"{named} is {found}; this gradient was compiled for {aval}: compile it for that too")


def _arrived(values: list[Any], place: int) -> Any:
    """A value; of one that is being fetched, once it is there."""
    value = values[place]
    if isinstance(value, Moving):
        value = values[place] = value.block_until_ready()
    return value


def _as_they_are(constants: Mapping[int, Any], device: Any) -> dict[int, Any]:
    """Captured values, of NumPy arrays copies: as in any compiled program they stay what they were when it was compiled."""
    return {k: jnp.array(x, device=device) if isinstance(x, np.ndarray) else x for k, x in constants.items()}


def _device(leaves: Sequence[Any]) -> Any:
    """The device to which arguments are committed; None where they are to none."""
    committed = (x for x in leaves if isinstance(x, jax.Array) and getattr(x, "committed", False))
    return next((next(iter(x.devices())) for x in committed), None)
