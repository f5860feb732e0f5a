# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Who plans the calls whose budget is "fit": the step around them, while it is traced.

A context of JAX's, so that what `jax.jit` traced inside one step, for one of its plans, is used for no other, nor outside.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

import jax

from ckptgrad.bytes import outside_fit
from ckptgrad.chain.cutting import Ways
from ckptgrad.chain.program import Program
from ckptgrad.results.plan import Plan


class StepPlanner(Protocol):
    """What plans the calls inside a step."""

    def plan_of(self, ways: Ways[Program], request: Any) -> Plan:
        """The plan of the next call.

        Args:
            ways: to cut it.
            request: what is asked for of the call, besides its bytes (`ckptgrad.request`).
        """
        ...

    def completed(self, request: Any) -> Any:
        """What is asked for of a call, and of the step where the call leaves it open."""
        ...


# JAX keeps values of its context as long as what was traced under them: numbers, which hold nothing alive.
_NUMBERS = count(1)
_CONTEXT = jax.make_user_context(0)
_PLANNERS: dict[int, StepPlanner] = {}


@contextmanager
def planned_by(planner: StepPlanner) -> Generator[None]:
    """Let `planner` plan what is traced inside with a budget of "fit"."""
    number = next(_NUMBERS)
    _PLANNERS[number] = planner
    try:
        with _CONTEXT(number):
            yield
    finally:
        del _PLANNERS[number]


def step_planner() -> StepPlanner:
    """Who plans the calls of the step that is being traced.

    Raises:
        OptionError: no step is.
    """
    planner = _PLANNERS.get(_CONTEXT.value)
    if planner is None:
        raise outside_fit()
    return planner


def completed(request: Any) -> Any:
    """A request whose budget is "fit" with what is asked for of the step around the call, where it leaves that open.

    Raises:
        OptionError: there is no such step.
    """
    return step_planner().completed(request) if request.asks_to_fit else request
