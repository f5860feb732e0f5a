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


def certify(
    build: Callable[[int], tuple[Plan, Any]], args: Any, kwargs: Any, budget: int | None
) -> Certified:
    """Compile plans with growing margins until one fits.

    Args:
        build: from a margin in bytes to a plan that leaves it free, and a jitted function.
        args, kwargs: abstract arguments.
        budget: bytes, or None for none.

    Raises:
        BudgetError: the smallest plan does not fit.
    """
    margin, smallest, stage = 0, None, None
    for attempt in range(1, MAX_ROUNDS + 1):
        try:
            plan, jitted = build(margin)
        except BudgetError as error:
            if smallest is None:
                raise
            assert budget is not None
            raise BudgetError(budget, smallest, error.stage, error.policy) from None
        executable = jitted.lower(*args, **kwargs).compile()
        memory = compiled_memory(executable)
        if budget is None or memory.peak_bytes <= budget:
            return Certified(executable, plan, memory, attempt)
        smallest = memory.peak_bytes if smallest is None else min(smallest, memory.peak_bytes)
        excess = memory.peak_bytes - budget
        margin = max(margin + excess, budget - plan.peak_bytes + excess)
    assert budget is not None and smallest is not None
    raise BudgetError(budget, smallest, stage, plan.schedule.policy)
