"""What a training has come to: the loss of each step, and a text that the model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptgrad.results.shown import Shown


@dataclass(frozen=True, repr=False)
class TrainingRun(Shown):
    """A training that is done.

    Attributes:
        losses: one per step, in nats per byte.
        sample: a prompt, continued by the model.
    """

    losses: tuple[float, ...]
    sample: str

    def to_dict(self) -> dict[str, Any]:
        """The training as plain data."""
        return {"losses": [*self.losses], "sample": self.sample}
