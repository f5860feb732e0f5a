"""Budgets as users write them: bytes, "512MiB", "0.25x", "min", "auto"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax

from ckptgrad.errors import BudgetFormatError

Budget = int | str | None

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
}  # fmt: skip
_NUMBER = re.compile(r"^\s*([+-]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*$", re.IGNORECASE)


def check_budget(budget: Any) -> None:
    """Reject a malformed or negative budget without knowing the function.

    Raises:
        BudgetFormatError: naming the budget and the accepted forms.
    """
    resolve_budget(budget, lambda: 1, lambda: 1)


def resolve_budget(budget: Any, everything: Callable[[], int], minimum: Callable[[], int]) -> int | None:
    """A budget in bytes; None for no budget.

    Args:
        budget: an int, a string, or None.
        everything: bytes that storing everything needs, asked for by "0.25x".
        minimum: the smallest feasible bytes, asked for by "min".
    """
    if budget is None:
        return None
    if isinstance(budget, bool) or (not isinstance(budget, (int, float, str)) and not hasattr(budget, "__index__")):
        raise BudgetFormatError(budget, f"it is a {type(budget).__name__}")
    if not isinstance(budget, str):
        return _positive(float(budget), 1, budget)
    text = budget.strip().lower()
    if text == "min":
        return minimum()
    if text == "auto":
        return free_bytes()
    match = _NUMBER.match(text)
    if match is None:
        raise BudgetFormatError(budget, "it is no number with a unit")
    number, unit = float(match[1]), match[2].lower()
    if unit == "x":
        return _positive(number, everything(), budget)
    if unit not in _UNITS:
        raise BudgetFormatError(budget, f"the unit {match[2]!r} is unknown")
    return _positive(number, _UNITS[unit], budget)


def _positive(number: float, unit: int, budget: Any) -> int:
    if not 0 < number < float("inf"):
        raise BudgetFormatError(budget, "it must be finite and greater than zero")
    return int(number * unit)


def free_bytes() -> int:
    """Bytes that the default device (or, on CPU, the machine) has free now."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    import psutil

    return psutil.virtual_memory().available


def format_bytes(n: float) -> str:
    """Bytes for people: '1.5 MiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"
