"""What cases for chips that need not be here share: a target by its name, programs compiled for it, and why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.stages import Compiled

import ckptgrad as cg
from ckptgrad.bench.rows import Row, row
from ckptgrad.bytes import Budget, format_bytes
from ckptgrad.errors import BudgetError, MissingExtraError
from ckptgrad.execution.certified import Certified


class RefusedError(Exception):
    """Nothing was compiled; its words are the reason, for a row."""


def for_target(name: str, rows: Callable[[cg.Target], Iterator[Row]]) -> Iterator[Row]:
    """The rows for a target; one with the reason where its compiler is not installed."""
    try:
        target = cg.target(name)
    except MissingExtraError as error:
        yield row(name, skipped=str(error))
        return
    yield from rows(target)


def rival_for(target: cg.Target, loss: Callable[..., Any], args: Any) -> tuple[Compiled, float]:
    """jax.grad of a loss, compiled, and the seconds that took.

    Raises:
        RefusedError: the compiler refuses it, as a program that does not fit into the memory.
    """
    return compiled_for(target, jax.value_and_grad(loss), args)


def compiled_for(target: cg.Target, fun: Callable[..., Any], args: Any) -> tuple[Compiled, float]:
    """A function, compiled, and the seconds that took.

    Raises:
        RefusedError: the compiler refuses it.
    """
    start = time.perf_counter()
    try:
        executable = target.compile(target.lower(jax.jit(fun), *args))
    except jax.errors.JaxRuntimeError as error:
        raise RefusedError(_first_words(error)) from error
    return executable, time.perf_counter() - start


def plan_for(target: cg.Target, loss: Callable[..., Any], args: Any, budget: Budget) -> tuple[Certified, float]:
    """Our plan of a loss within a budget, compiled, and the seconds that took.

    Raises:
        RefusedError: no plan is within the budget, or the compiler refuses it.
    """
    start = time.perf_counter()
    try:
        certified = cg.value_and_grad(loss, budget=budget, target=target).compile(*args)
    except BudgetError as error:
        least = f"{format_bytes(error.budget)} is less than the smallest possible, {format_bytes(error.smallest)}"
        raise RefusedError(least) from error
    except jax.errors.JaxRuntimeError as error:
        raise RefusedError(_first_words(error)) from error
    return certified, time.perf_counter() - start


def kept_values(certified: Certified) -> dict[str, Any]:
    """The budget of a plan, what was predicted of it, and whether it is kept."""
    values: dict[str, Any] = {"budget_bytes": certified.budget}
    if certified.plan.is_predicted:
        values["predicted_bytes"] = certified.plan.peak_bytes
    if certified.budget is not None:
        values["kept"] = certified.peak_bytes <= certified.budget
    return values


def _first_words(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
