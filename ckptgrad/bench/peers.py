"""The packages that ckptgrad is compared with: optional, each left out with a word when it is not installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

EXTRA = "pip install 'ckptgrad[peers]'"
TORCH = "its CPU build, as its own site says"


@dataclass(frozen=True)
class Peer:
    """A package: its name where it is published, its import name, and how it is installed."""

    name: str
    module: str
    install: str = EXTRA

    @property
    def skip(self) -> str:
        """Why it cannot be compared with; empty where it can."""
        return "" if find_spec(self.module) else f"{self.name} is not installed: {self.install}"

    @property
    def version(self) -> str | None:
        """The installed version."""
        return None if self.skip else metadata.version(self.name)

    def load(self, module: str = "") -> Any:
        """The package, or one of its modules."""
        return import_module(f"{self.module}.{module}" if module else self.module)


EQUINOX = Peer("equinox", "equinox")
DIFFRAX = Peer("diffrax", "diffrax")
CHECKPOINT_SCHEDULES = Peer("checkpoint-schedules", "checkpoint_schedules")
TORCH_CPU = Peer("torch", "torch", TORCH)
PEERS = (EQUINOX, DIFFRAX, CHECKPOINT_SCHEDULES, TORCH_CPU)
