"""What all errors share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CkptgradError(Exception):
    """Base of every error that ckptgrad raises on purpose.

    Example:
        >>> import ckptgrad as cg
        >>> issubclass(cg.BudgetError, cg.CkptgradError)
        True
    """


def brief(value: object) -> str:
    """A value as a message shows it, whatever its size and however it prints."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, for example
        return f"of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def near_miss(name: str, names: Iterable[str]) -> str | None:
    """Of some names the one that a wrong one was probably meant to be.

    Example:
        >>> near_miss("budgt", ["policy", "budget"])
        'budget'
    """
    among = list(names)
    begun = [other for other in among if len(name) > 2 and other.startswith(name)]
    return next(iter(begun or difflib.get_close_matches(name, among, 1)), None)
