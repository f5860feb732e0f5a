"""Compile, read XLA's buffer assignment, and replan until the certified peak is within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptgrad.budget import format_bytes
from ckptgrad.errors import BudgetError
from ckptgrad.meters.xla import Memory, compiled_memory
from ckptgrad.plan import Plan
from ckptgrad.planning.schedule import Schedule
from ckptgrad.runtime.calibrate import best_seconds

MAX_ROUNDS = 8
COMPARED = 5
# An excess that another target mends; a larger one means that the estimate does not know the program.
SLIGHT = 0.01


@dataclass(frozen=True)
class Certified:
    """A compiled gradient whose peak XLA's buffer assignment vouches for.

    Attributes:
        plan: the plan that was compiled.
        memory: what XLA allocates.
        rounds: how many plans were compiled before this one fitted, itself included.
    """

    executable: Any
    plan: Plan
    memory: Memory
    rounds: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.executable(*args, **kwargs)

    @property
    def peak_bytes(self) -> int:
        """Certified bytes beyond the arguments: temporaries plus outputs."""
        return self.memory.peak_bytes

    @property
    def temporary_bytes(self) -> int:
        """Certified bytes of temporaries."""
        return self.memory.temporary_bytes

    def compare(self, *args: Any, **kwargs: Any) -> Comparison:
        """Run it a few times, and tell how far off the plan's predictions were."""
        seconds = best_seconds(lambda: self(*args, **kwargs), COMPARED)
        return Comparison(self.plan.peak_bytes, self.peak_bytes, self.plan.seconds, seconds)


@dataclass(frozen=True)
class Comparison:
    """Predicted and found: peak bytes beyond the arguments, seconds of a call."""

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


def certify(
    build: Callable[[int | None, bool], tuple[Plan, Any]], args: Any, kwargs: Any, budget: int | None
) -> Certified:
    """Compile plans with smaller and smaller targets until one fits.

    The first plan is made by estimates.  If XLA holds more than the budget, the stages are planned again by what XLA
    allocates for each of them, and from then on the target is lowered by what the last plan took too much.

    Args:
        build: from a target in bytes (None: no budget), and whether to ask XLA for the bytes of each stage, to a plan
            within the target and a jitted function.
        args, kwargs: abstract arguments.
        budget: bytes, or None for none.

    Raises:
        BudgetError: the smallest plan does not fit; carries the smallest certified peak.
    """
    target, by_xla, least, stage, last_resort = budget, False, None, None, False
    known: dict[Schedule, tuple[Any, Memory]] = {}
    policy = None
    for attempt in range(1, MAX_ROUNDS + 1):
        try:
            plan, jitted = build(target, by_xla)
        except BudgetError as error:
            # The prediction may be cautious: let XLA judge the smallest plan before giving up.
            if last_resort or (least is not None and least[1] <= error.smallest):
                break
            last_resort, stage, target = True, error.stage, error.smallest
            plan, jitted = build(target, by_xla)
        if plan.schedule not in known:
            executable = jitted.lower(*args, **kwargs).compile()
            known[plan.schedule] = executable, compiled_memory(executable)
        executable, memory = known[plan.schedule]
        if budget is None or memory.peak_bytes <= budget:
            return Certified(executable, plan, memory, attempt)
        policy = plan.schedule.policy
        if least is None or memory.peak_bytes < least[0]:
            least = (memory.peak_bytes, plan.peak_bytes)
        excess = memory.peak_bytes - budget
        if not by_xla and excess > SLIGHT * budget:
            by_xla, last_resort, target = True, False, budget
            continue
        if last_resort:
            break
        target = max(1, min(target or budget, plan.peak_bytes) - excess)
    assert budget is not None
    assert least is not None
    raise BudgetError(budget, least[0], stage, policy)
