"""What is published of a chip."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates


@dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
        kind: the model, as `jax.Device.device_kind` names it.
        memory: bytes of the memory that programs run in.
        rates: by which times are estimated.
        description: the text from which XLA's GPU compiler knows it; empty for others.
        links: between several of them; None where they are not known.
    """

    kind: str
    memory: int
    rates: Rates
    description: str = ""
    links: Links | None = None
