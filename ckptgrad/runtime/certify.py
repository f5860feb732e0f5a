"""Compile, read XLA's buffer assignment, and replan until the certified peak is within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptgrad.errors import BudgetError
from ckptgrad.meters.xla import Memory, compiled_memory
from ckptgrad.plan import Plan

MAX_ROUNDS = 6


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


def certify(build: Callable[[int | None], tuple[Plan, Any]], args: Any, kwargs: Any, budget: int | None) -> Certified:
    """Compile plans with smaller and smaller targets until one fits.

    Args:
        build: from a target in bytes (None: no budget) to a plan within it and a jitted function.
        args, kwargs: abstract arguments.
        budget: bytes, or None for none.

    Raises:
        BudgetError: the smallest plan does not fit; carries the smallest certified peak.
    """
    target, least, stage, last_resort = budget, None, None, False
    policy = None
    for attempt in range(1, MAX_ROUNDS + 1):
        try:
            plan, jitted = build(target)
        except BudgetError as error:
            # The prediction may be cautious: let XLA judge the smallest plan before giving up.
            if last_resort or (least is not None and least[1] <= error.smallest):
                break
            last_resort, stage, target = True, error.stage, error.smallest
            plan, jitted = build(target)
        executable = jitted.lower(*args, **kwargs).compile()
        memory = compiled_memory(executable)
        if budget is None or memory.peak_bytes <= budget:
            return Certified(executable, plan, memory, attempt)
        policy = plan.schedule.policy
        if least is None or memory.peak_bytes < least[0]:
            least = (memory.peak_bytes, plan.peak_bytes)
        if last_resort:
            break
        excess = memory.peak_bytes - budget
        target = max(1, min(target or budget, plan.peak_bytes) - excess)
    assert budget is not None
    assert least is not None
    raise BudgetError(budget, least[0], stage, policy)
