"""Budgets as users write them: bytes, "512MiB", "0.25x", "min", "auto", "fit"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from ckptgrad.errors import BudgetFormatError, OptionError

Budget = int | str | None

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
}  # fmt: skip
_PERCENT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*%")
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z]*)")
# Planners count bytes in 64 bits.
MOST_BYTES = 2**63 - 1


def check_budget(budget: Any) -> None:
    """Reject a malformed or negative budget without knowing the function.

    Raises:
        BudgetFormatError: naming the budget and the accepted forms.
    """
    if not is_fit(budget):
        resolve_budget(budget, lambda: 1, lambda: 1, lambda: 1)


def is_fit(budget: Any) -> bool:
    """Whether a budget is "fit": what the step around it leaves, which `ckptgrad.fit` decides."""
    return isinstance(budget, str) and budget.strip().lower() == "fit"


def is_auto(budget: Any) -> bool:
    """Whether a budget is "auto": what is free."""
    return isinstance(budget, str) and budget.strip().lower() == "auto"


def outside_fit() -> OptionError:
    """The error of a budget "fit" where nothing knows of a step."""
    return OptionError(
        "budget='fit' is what is left of the memory of a whole step, which is known only inside a function that is given to "
        "ckptgrad.fit: call ckptgrad.fit(step, *args, memory=...) and what it returns, or give a budget in bytes"
    )


def resolve_budget(
    budget: Any, everything: Callable[[], int], minimum: Callable[[], int], free: Callable[[], int]
) -> int | None:
    """A budget in bytes; None for no budget.

    Args:
        budget: an int, a string, or None.
        everything: bytes that storing everything needs, asked for by "0.25x".
        minimum: the smallest feasible bytes, asked for by "min".
        free: the bytes that are free now, asked for by "auto".

    Raises:
        BudgetFormatError: it cannot be read.
        OptionError: it is "fit", which has no bytes of its own.
    """
    if budget is None:
        return None
    if is_fit(budget):
        raise outside_fit()
    if not isinstance(budget, str):
        return _bytes_of_number(budget)
    text = budget.strip().lower()
    if text == "min":
        return minimum()
    if is_auto(text):
        return free()
    match = _NUMBER.fullmatch(text)
    if match is None:
        percent = _PERCENT.fullmatch(text)
        asks = "" if percent is None else f"; {_meant(f'{float(percent[1]) / 100:g}')}"
        raise BudgetFormatError(budget, f"expected a number followed by a unit{asks}")
    number, unit = match.groups()
    if unit == "x":
        return _in_range(number, everything(), budget)
    if unit not in _UNITS:
        raise BudgetFormatError(budget, f"the unit {unit!r} is unknown")
    size = _in_range(number, _UNITS[unit], budget)
    if not size or (_UNITS[unit] == 1 and Decimal(number) != size):
        raise BudgetFormatError(budget, f"it is not a whole number of bytes; {_meant(number)}")
    return size


def is_share(budget: Budget) -> bool:
    """Whether a budget that `check_budget` accepts is a share of what storing everything needs: "0.25x"."""
    return isinstance(budget, str) and budget.strip().lower().endswith("x")


def is_in_bytes(budget: Budget) -> bool:
    """Whether a budget that `check_budget` accepts is a number of bytes: not none, nor a share of what a plan needs."""
    if not isinstance(budget, str):
        return budget is not None
    text = budget.strip().lower()
    return text not in ("min", "fit") and not text.endswith("x")


def _bytes_of_number(budget: Any) -> int:
    """The bytes that a number means: an integer of any kind, or a float of at least one byte, rounded down."""
    number = None
    with suppress(Exception):  # whatever an array, a traced value or any other object raises
        number = float(budget) if isinstance(budget, Real) and not isinstance(budget, Integral) else operator.index(budget)
    if number is None or isinstance(budget, bool):
        raise BudgetFormatError(budget, f"it is a {type(budget).__name__}")
    size = _in_range(number, 1, budget)
    if not size:
        raise BudgetFormatError(budget, f"it is less than one byte; {_meant(number)}")
    return size


def _meant(number: Any) -> str:
    return f'did you mean "{number}x", a share of what storing everything needs?'


def _in_range(number: Any, unit: int, budget: Any) -> int:
    """`number` (a number, or one as text) times `unit`, rounded down."""
    near = number if isinstance(number, int) else float(number)
    if not near > 0:  # rejects nan as well
        raise BudgetFormatError(budget, "it must be greater than zero")
    if near > MOST_BYTES or (exact := Decimal(number) * unit) > MOST_BYTES:
        raise BudgetFormatError(budget, f"it must be finite, and at most {MOST_BYTES} bytes")
    return int(exact)


def as_budget(n: int, up: bool = True) -> tuple[str, int]:
    """Bytes as a budget that can be written, rounded up or down to a tenth of its unit, and how many bytes that is.

    Example:
        >>> as_budget(1_600_000)
        ('1.6MiB', 1677721)
        >>> as_budget(1_600_000, up=False)
        ('1.5MiB', 1572864)
    """
    unit = next((u for u in ("GiB", "MiB", "KiB") if n >= _UNITS[u.lower()]), None)
    if unit is None:
        return f"{n}B", n
    size = _UNITS[unit.lower()]
    tenths = -(-10 * n // size) if up else 10 * n // size
    text = f"{tenths // 10}.{tenths % 10}{unit}" if tenths % 10 else f"{tenths // 10}{unit}"
    return text, tenths * size // 10


def device_words(devices: int) -> str:
    """Whose bytes they are, after a number of them: " a device, of 8"; nothing where there is one device."""
    return f" a device, of {devices}" if devices > 1 else ""


def format_bytes(n: float) -> str:
    """Bytes for people: '1.5 MiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"
