"""What holds the smallest plan of one loop up, for errors of the doors that plan a loop by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptgrad.bytes import format_bytes
from ckptgrad.graph.source import SourceLine
from ckptgrad.results.at_peak import time_words


@dataclass(frozen=True)
class LoopFloor:
    """The smallest plan of a loop.

    Attributes:
        loop: the loop's operation: "scan".
        place: where it stands.
        plan: the plan in a few words.
        stored: bytes stored between forward and backward.
        inside: bytes held in a pass besides.
        seconds: of both passes, estimated.
        fastest_seconds: of the fastest plan.
        everything_bytes: what storing every step takes, which budgets such as "0.5x" are shares of.
    """

    loop: str
    place: SourceLine | None
    plan: str
    stored: int
    inside: int
    seconds: float
    fastest_seconds: float
    everything_bytes: int

    @property
    def bytes(self) -> int:
        """The smallest peak: operands, results and gradients not counted."""
        return self.stored + self.inside

    @property
    def slowdown(self) -> float | None:
        """The estimated time there, in times that of the fastest plan; None where that takes none."""
        return self.seconds / self.fastest_seconds if self.fastest_seconds else None

    def __str__(self) -> str:
        """What is held at the floor and what it costs: one sentence a line."""
        what = self.loop if self.place is None else f"{self.loop} at {self.place.brief}"
        held = (
            f"held there, as predicted, by the {what} ({self.plan}): {format_bytes(self.stored)} stored between forward and "
            f"backward, {format_bytes(self.inside)} inside a pass"
        )
        return "\n".join([held, *time_words(self.slowdown)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in bytes and seconds."""
        return {
            "loop": self.loop,
            "place": None if self.place is None else str(self.place),
            "plan": self.plan,
            "bytes": self.bytes,
            "stored": self.stored,
            "inside": self.inside,
            "seconds": self.seconds,
            "times_fastest": self.slowdown,
            "everything_bytes": self.everything_bytes,
        }
