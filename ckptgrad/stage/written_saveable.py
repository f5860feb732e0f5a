"""What may be kept inside stages, written as text: the names of `jax.checkpoint_policies`, those of marks behind a colon."""

from __future__ import annotations

import jax

from ckptgrad.errors import OptionError
from ckptgrad.stage.save_options import Saveable

# Those that answer by the operation, and those that are made of the names of `checkpoint_name` marks.
BY_OPERATION = ("everything_saveable", "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable")
BY_MARK = ("save_only_these_names", "save_any_names_but_these", "save_anything_except_these_names")


def choices() -> list[str]:
    """What can be written."""
    return [*BY_OPERATION, *(f"{name}:MARK,..." for name in BY_MARK)]


def read_saveable(text: str) -> Saveable:
    """A predicate as in `jax.checkpoint_policies`.

    Raises:
        OptionError: there is none of this name, or marks are missing.

    Example:
        >>> read_saveable("dots_saveable") is jax.checkpoint_policies.dots_saveable
        True
    """
    name, colon, marks = text.partition(":")
    if name in BY_OPERATION and not colon:
        return getattr(jax.checkpoint_policies, name)
    names = [mark.strip() for mark in marks.split(",") if mark.strip()]
    if name in BY_MARK and names:
        return getattr(jax.checkpoint_policies, name)(*names)
    raise OptionError(f"saveable {text!r} cannot be read; write one of {', '.join(choices())}")
