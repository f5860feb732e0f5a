"""`validate`: one function, all ways to its gradient, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from ckptgrad.api import value_and_grad
from ckptgrad.arguments import check_inputs, make_call, trace_call
from ckptgrad.budget import Budget
from ckptgrad.errors import BudgetError, OptionError, ValidationError
from ckptgrad.meters import resident as resident_set
from ckptgrad.meters import xla
from ckptgrad.planning.schedule import Schedule
from ckptgrad.validation.compare import difference
from ckptgrad.validation.reference import checkpointed, plain
from ckptgrad.validation.result import Row, Validation
from ckptgrad.validation.timing import alternate, median_ratio

Policy = str | Callable | Schedule

# Rows without `policies`: the planner's own, and with a budget the classics to compare it with.
DEFAULT = ("optimal",)
DEFAULT_WITH_BUDGET = ("optimal", "sqrt", "revolve")


@dataclass(frozen=True)
class _Candidate:
    """A row under way and its compiled program (None where there is none)."""

    row: Row
    executable: Any = None


def validate(
    fun: Callable,
    *args: Any,
    budget: Budget = None,
    policies: Sequence[Policy] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    repeats: int = 5,
    resident: bool = True,
    tolerance: float | None = None,
    **kwargs: Any,
) -> Validation:
    """Compare ckptgrad's gradient of `fun` with `jax.grad` and `jax.checkpoint`: result, peak, time.

    Args:
        fun: a function that returns a scalar, or (scalar, aux) with `has_aux`.
        *args, **kwargs: its arguments; concrete, because all is run.
        budget: as for `value_and_grad`; binds the policies.
        policies: names, functions or Schedules, a row each; by default "optimal", and with a budget also "sqrt"
            and "revolve".
        argnums, has_aux: as for `value_and_grad`.
        repeats: rounds of timing, at least 1.
        resident: whether to measure peak resident memory too, in a fresh process a row (some seconds each).
        tolerance: the largest relative difference allowed, by default that of each dtype
            (`validation.compare.TOLERANCES`).

    Returns:
        A Validation. A policy that cannot meet the budget has a row that says so.

    Raises:
        ValidationError: a gradient or value differs, or a certified peak breaks the budget; the table
            is its attribute `validation`.
        BudgetError: no policy can meet the budget.
        GradientTypeError, BudgetFormatError, OptionError: as from `value_and_grad`.

    Example:
        >>> import jax.numpy as jnp
        >>> table = validate(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(4), resident=False)
        >>> table.passed
        True
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise OptionError(f"repeats={repeats!r}: time at least 1 round")
    if isinstance(policies, (str, Schedule)) or callable(policies):
        policies = [policies]
    if policies is None:
        policies = DEFAULT if budget is None else DEFAULT_WITH_BUDGET
    if not policies:
        raise OptionError("policies is empty; name at least one, or leave it out")
    doors = [value_and_grad(fun, argnums, has_aux, allow_int=True, budget=budget, policy=p) for p in policies]
    call = make_call(fun, args, kwargs, argnums)
    check_inputs(call, allow_int=True, holomorphic=False)
    traced = trace_call(call, has_aux, scalar=True)

    references = {"jax.grad": plain(fun, argnums, has_aux), "jax.checkpoint": checkpointed(traced, argnums)}
    candidates = [_compile_reference(name, f, args, kwargs) for name, f in references.items()]
    limit = None
    for policy, door in zip(policies, doors, strict=True):
        candidate, met = _compile_policy(_name(policy), door, args, kwargs)
        candidates.append(candidate)
        limit = met if limit is None else limit
    table = _measure(candidates, args, kwargs, repeats, resident, tolerance)
    result = Validation(getattr(fun, "__name__", type(fun).__name__), table, limit, repeats, tolerance)
    if not result.passed:
        raise ValidationError("; ".join(result.failures), result)
    if not any(row.feasible for row in table[len(references) :]):
        doors[0].plan(*args, **kwargs)
    return result
