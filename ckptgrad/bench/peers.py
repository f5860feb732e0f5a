"""The packages that ckptgrad is compared with. All are optional; a case leaves out a missing one and says so."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

EXTRA = "pip install 'ckptgrad[peers]'"
TORCH = "install its CPU build as pytorch.org describes"


@dataclass(frozen=True)
class Peer:
    """A package: its published name, its import name, and how to install it."""

    name: str
    module: str
    install: str = EXTRA

    @property
    def skip(self) -> str:
        """Why it is left out; empty if it is installed."""
        return "" if find_spec(self.module) else f"{self.name} is not installed: {self.install}"

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        return None if self.skip else metadata.version(self.name)

    def load(self, module: str = "") -> Any:
        """The package, or one of its modules."""
        return import_module(f"{self.module}.{module}" if module else self.module)


EQUINOX = Peer("equinox", "equinox")
DIFFRAX = Peer("diffrax", "diffrax")
CHECKPOINT_SCHEDULES = Peer("checkpoint-schedules", "checkpoint_schedules")
TORCH_CPU = Peer("torch", "torch", TORCH)
PEERS = (EQUINOX, DIFFRAX, CHECKPOINT_SCHEDULES, TORCH_CPU)
