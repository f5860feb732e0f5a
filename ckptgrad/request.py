"""What a user asks of a gradient: the options of all doors as one value, checked in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ckptgrad.bytes import Budget, check_budget
from ckptgrad.errors import ArgnumsError, OptionError
from ckptgrad.planning.policy import Policy, get_policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.stage.save_options import Saveable
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target

PolicyChoice: TypeAlias = str | Policy | Schedule

COST_SOURCES = ("auto", "estimate", "compile", "measure")


@dataclass(frozen=True)
class Request:
    """The options of a door.

    Attributes:
        argnums: positions of the differentiated arguments: an int, or a tuple of ints for any other iterable.
        has_aux: whether the function returns (output, aux).
        holomorphic: whether the function is promised to be holomorphic.
        allow_int: whether integer arguments are allowed; their gradient is float0 zeros.
        budget: bytes that the call may hold beyond its arguments, as `ckptgrad.bytes` reads them.
        policy: the name of a policy, a function (costs, bytes) -> Schedule, or a Schedule.
        saveable: which values may be kept inside stages, a predicate as in `jax.checkpoint_policies`; None: all.
        costs: how stages are judged, one of COST_SOURCES.
        target: what is compiled for, as `ckptgrad.target` takes it, then a Target; None: the default device of this process,
            whichever that is when the function is called.

    Raises:
        BudgetFormatError: the budget is malformed.
        PolicyError: no policy has this name.
        OptionError: `costs` or the target is unknown, or `argnums` is empty.
        MissingExtraError: the compiler of the target is not installed.
        ArgnumsError: `argnums` is not an int or an iterable of ints.
    """

    argnums: int | Sequence[int] = 0
    has_aux: bool = False
    holomorphic: bool = False
    allow_int: bool = False
    budget: Budget = None
    policy: PolicyChoice = "optimal"
    saveable: Saveable | None = None
    costs: str = "auto"
    target: TargetChoice = None

    def __post_init__(self) -> None:
        check_budget(self.budget)
        if not isinstance(self.policy, Schedule):
            get_policy(self.policy)
        if self.costs not in COST_SOURCES:
            raise OptionError(f"costs={self.costs!r} is unknown; there are {', '.join(COST_SOURCES)}")
        object.__setattr__(self, "argnums", _checked_argnums(self.argnums))
        if self.target is not None:
            object.__setattr__(self, "target", named_target(self.target))

    @property
    def compiled_for(self) -> Target:
        """The target; the default device of this moment where none is named."""
        return named_target(self.target)

    @property
    def asks_for_least(self) -> bool:
        """Whether the budget is "min": the smallest plan, whatever it needs."""
        return isinstance(self.budget, str) and self.budget.strip().lower() == "min"

    def for_argnums(self, results: Sequence[Any]) -> Any:
        """One result per differentiated argument: as a tuple, or alone where `argnums` is an int."""
        return results[0] if isinstance(self.argnums, int) else tuple(results)


def _checked_argnums(argnums: Any) -> int | tuple[int, ...]:
    if _is_index(argnums):
        return int(argnums)
    several = isinstance(argnums, Iterable) and not isinstance(argnums, (str, bytes))
    numbers = tuple(argnums) if several else ()
    if not several or not all(map(_is_index, numbers)):
        raise ArgnumsError(f"argnums must be an int or a sequence of ints, got {argnums!r}")
    if not numbers:
        raise OptionError(f"argnums={argnums!r} must name at least one argument")
    return tuple(map(int, numbers))


def _is_index(value: Any) -> bool:
    return not isinstance(value, (bool, np.bool_)) and hasattr(value, "__index__") and np.ndim(value) == 0
