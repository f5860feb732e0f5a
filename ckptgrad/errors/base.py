"""What all errors share."""

from __future__ import annotations


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
