"""Compile, read XLA's buffer assignment, and replan until the certified peak is within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, log
from typing import Any

from ckptgrad.bytes import format_bytes
from ckptgrad.errors import BudgetError
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.outcomes import OUTCOMES, Outcome
from ckptgrad.results.plan import Plan
from ckptgrad.target.allocated import Memory
from ckptgrad.target.calibrate import best_seconds
from ckptgrad.target.target import Target

MAX_ROUNDS = 8
COMPARED = 5
# Aims are powers of this; the number of them above the budget that are tried.
RUNG = 1 + 1 / 256
ABOVE = 2
FAR = 0.08


@dataclass(frozen=True)
class Certified:
    """A compiled gradient whose peak XLA's buffer assignment vouches for.

    Attributes:
        plan: the plan that was compiled.
        memory: what XLA allocates.
        rounds: how many plans were compiled until this one fitted, itself included.
        budget: the bytes that it keeps, as asked for; None for none. The plan's own budget may be smaller.
        traced_parts: from arguments to those that the executable takes, where some are not traced: the program is that
            for their values, and others raise StaticArgumentError.
    """

    executable: Any
    plan: Plan
    memory: Memory
    rounds: int
    budget: int | None = None
    traced_parts: Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.target.check_runs()
        if self.traced_parts is not None:
            args, kwargs = self.traced_parts(args, kwargs)
        return self.executable(*args, **kwargs)

    @property
    def target(self) -> Target:
        """What it is compiled for."""
        return self.plan.program.target

    @property
    def peak_bytes(self) -> int:
        """Certified bytes beyond the arguments: temporaries plus outputs."""
        return self.memory.peak_bytes

    @property
    def temporary_bytes(self) -> int:
        """Certified bytes of temporaries."""
        return self.memory.temporary_bytes

    def compare(self, *args: Any, **kwargs: Any) -> Comparison:
        """Run it a few times, and tell how far off the plan's predictions were; printed with the plan from then on."""
        seconds = best_seconds(lambda: self(*args, **kwargs), COMPARED)
        OUTCOMES.put(self.plan.program, self.plan.schedule, Outcome(self.peak_bytes, seconds))
        return Comparison(self.plan.peak_bytes, self.peak_bytes, self.plan.seconds, seconds)


@dataclass(frozen=True)
class Comparison:
    """Predicted and actual: peak bytes beyond the arguments, seconds of a call."""

    predicted_peak_bytes: int
    peak_bytes: int
    predicted_seconds: float
    seconds: float

    def __str__(self) -> str:
        rows = (
            ("peak", format_bytes(self.predicted_peak_bytes), format_bytes(self.peak_bytes), self._off("peak_bytes")),
            ("time", f"{self.predicted_seconds:.3g} s", f"{self.seconds:.3g} s", self._off("seconds")),
        )
        return "\n".join(f"{what}: predicted {a}, found {b} ({off:+.1%})" for what, a, b, off in rows)

    def _off(self, name: str) -> float:
        predicted = getattr(self, f"predicted_{name}")
        return getattr(self, name) / predicted - 1 if predicted else 0.0


def certify(build: Callable[[int | None], tuple[Plan, Any]], args: Any, kwargs: Any, budget: int | None) -> Certified:
    """Compile plans for smaller and smaller aims until the compiler's peak is within the budget.

    Aims are taken from one ladder, whatever the budget: of two budgets the larger one may use every aim that the smaller
    one may, and is never given a slower plan. The first ones lie just above the budget: the compiler may hold a little
    less than predicted. Where a plan is far off (`FAR`), or after `MAX_ROUNDS` plans, the aim is lowered by the whole
    excess instead.

    Args:
        build: from an aim in bytes (None: no budget) to a plan within it and a jitted function.
        args, kwargs: abstract arguments.
        budget: bytes, or None for none.

    Raises:
        BudgetError: the smallest plan does not fit; carries the smallest certified peak.
    """
    known: dict[Schedule, tuple[Any, Memory]] = {}

    def compiled(plan: Plan, jitted: Any) -> Certified:
        if plan.schedule not in known:
            target = plan.program.target
            executable = target.compile(target.lower(jitted, *args, **kwargs))
            known[plan.schedule] = executable, target.allocated(executable)
            OUTCOMES.put(plan.program, plan.schedule, Outcome(known[plan.schedule][1].peak_bytes))
        executable, memory = known[plan.schedule]
        return Certified(executable, plan, memory, len(known), budget)

    if budget is None:
        return compiled(*build(None))
    rung = floor(log(max(budget, 1), RUNG)) + ABOVE
    aim = int(RUNG**rung)
    while True:
        aim = min(aim, int(RUNG**rung))
        try:
            certified = compiled(*build(aim))
        except BudgetError as error:
            # The prediction may be cautious: the compiler judges the smallest plan before giving up.
            certified, stage = compiled(*build(max(1, error.smallest))), error.stage
            if certified.peak_bytes > budget:
                smallest = min(memory.peak_bytes for _, memory in known.values())
                raise BudgetError(budget, smallest, stage, certified.plan.schedule.policy) from None
        if certified.peak_bytes <= budget:
            return certified
        excess = certified.peak_bytes - budget
        if excess > FAR * budget or len(known) >= MAX_ROUNDS:
            aim = max(1, min(aim, certified.plan.peak_bytes) - excess)
        rung = min(rung - 1, floor(log(max(aim, 1), RUNG)))
