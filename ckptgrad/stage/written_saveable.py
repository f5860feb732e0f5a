"""What may be kept inside stages, written as text: the names of `jax.checkpoint_policies`, those of marks behind a colon."""

from __future__ import annotations

import functools
from typing import Any

import jax

from ckptgrad.errors import OptionError
from ckptgrad.errors.base import brief, near_miss
from ckptgrad.stage.save_options import Saveable

# Those that answer by the operation, and those that are made of the names of `checkpoint_name` marks.
BY_OPERATION = ("everything_saveable", "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable")
BY_MARK = ("save_only_these_names", "save_any_names_but_these", "save_anything_except_these_names")


def choices() -> list[str]:
    """What can be written."""
    return [*BY_OPERATION, *(f"{name}:MARK,..." for name in BY_MARK)]


def check_saveable(saveable: Any) -> Saveable | None:
    """What a door is given, as a predicate; None for None.

    Raises:
        OptionError: it is neither a predicate nor the name of one.
    """
    if isinstance(saveable, str):
        return read_saveable(saveable)
    if saveable is None or callable(saveable):
        return saveable
    raise OptionError(
        f"saveable={brief(saveable)} is of type {type(saveable).__name__}: give a predicate as of "
        f"jax.checkpoint_policies, or one of {', '.join(choices())}"
    )


@functools.cache
def read_saveable(text: str) -> Saveable:
    """A predicate as in `jax.checkpoint_policies`; for equal texts the same one, so that equal stages stay equal.

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
    meant = None if name in (*BY_OPERATION, *BY_MARK) else near_miss(name, [*BY_OPERATION, *BY_MARK])
    asks = f": did you mean {meant!r}?" if meant else "."
    raise OptionError(f"saveable={text!r} cannot be read{asks} Write one of {', '.join(choices())}")
