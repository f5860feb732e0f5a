"""What `chunks=` asks for: whether stages may run over chunks of an axis, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptgrad.errors import OptionError

# Unless they are asked for whatever the size, chunks are considered where some stage holds as many bytes inside: below, what
# a compiled program takes beside what is predicted weighs more than what they save.
LEAST_INSIDE = 2**20


@dataclass(frozen=True)
class ChunkChoice:
    """Whether stages may run over chunks of an axis.

    Attributes:
        considered: whether they may, where a budget asks for it.
        at_any_size: whether also those of a call in which no stage holds much inside.
    """

    considered: bool
    at_any_size: bool = False

    def is_worth(self, inside: int) -> bool:
        """Whether chunks are considered where no stage holds more bytes inside than this."""
        return self.considered and (self.at_any_size or inside >= LEAST_INSIDE)


def read_chunks(choice: Any) -> ChunkChoice:
    """The value of the option `chunks`: True, False or "auto"; a `ChunkChoice` stays as it is.

    Raises:
        OptionError: it is none of these.

    Example:
        >>> read_chunks("auto")
        ChunkChoice(considered=True, at_any_size=False)
    """
    if isinstance(choice, ChunkChoice):
        return choice
    if isinstance(choice, bool):
        return ChunkChoice(choice, at_any_size=choice)
    if choice == "auto":
        return ChunkChoice(considered=True)
    raise OptionError(f'chunks={choice!r} must be True, False or "auto"')
