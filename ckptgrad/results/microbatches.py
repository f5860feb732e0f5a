"""Microbatches of a gradient: how many there are, of what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Microbatches:
    """A loss that is a sum over an axis, computed in parts one after the other.

    Attributes:
        count: how many there are.
        entries: along the axis, in each.
        axis: of the argument.
        argument: the user's name of what is cut.
        carried_bytes: of the sums of gradients and of the value, held beside those of one part.
        adding_seconds: that it takes to add to them, all parts together.
    """

    count: int
    entries: int
    axis: int
    argument: str
    carried_bytes: int = 0
    adding_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.count} of {self.entries} along axis {self.axis} of {self.argument}"
