"""What every meter is: a function from a subject to a Reading, registered with what it sees and what it cannot see.

Laws: a meter counts bytes beyond the arguments at the worst moment of one call; it does not change the program; what it
cannot measure it says in words and never raises for.
To add one: a file in this folder with a function decorated by `@meter(...)`; the folder is searched.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from ckptgrad.errors import OptionError
from ckptgrad.meters.buffers import Buffer
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        executable: the result of `jax.jit(f).lower(...).compile()`.
        target: what it is compiled for; its devices run it.
        args, kwargs: the arguments of a call, concrete for meters that run it.
        places: for each action of its plan the named scope of its work, and where it begins and ends as a share of the
            call's time; empty for programs of others.
        staged: runs the plan action by action, and calls its argument with all arrays held after each; None for
            programs of others.
    """

    executable: Any
    target: Target
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    places: Sequence[tuple[str | None, float, float]] = ()
    staged: Callable[[Callable[[Sequence[Any]], None]], None] | None = None


@dataclass(frozen=True)
class Reading:
    """What a meter read.

    Attributes:
        bytes: at the worst moment beyond the arguments; None if it could not be measured.
        reason: why it could not, or why there is no curve where the meter could see one.
        curve: bytes over the course of the call, as (share of its time, bytes), for meters that see it.
        alive: what was held at the worst moment, largest first, for meters that see it.
    """

    bytes: int | None
    reason: str | None = None
    curve: tuple[tuple[float, int], ...] = ()
    alive: tuple[Buffer, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        alive = [b.to_dict() for b in self.alive]
        return {"bytes": self.bytes, "reason": self.reason, "curve": [list(p) for p in self.curve], "alive_at_peak": alive}


@dataclass(frozen=True)
class Meter:
    """A way to measure.

    Attributes:
        name: as users write it.
        label: for tables and plots.
        sees, cannot_see: in words.
        runs: whether it runs the program (else abstract arguments do).
        measure: the function.
    """

    name: str
    label: str
    sees: str
    cannot_see: str
    runs: bool
    measure: Callable[[Subject], Reading]

    def __call__(self, subject: Subject) -> Reading:
        if self.runs and not subject.target.attached:
            return Reading(None, f"it runs the program, and {subject.target} is not attached")
        if self.runs and any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves((subject.args, subject.kwargs))):
            return Reading(None, "it runs the program, and arguments are ShapeDtypeStructs")
        return self.measure(subject)


_METERS: dict[str, Meter] = {}


def meter(name: str, *, label: str, sees: str, cannot_see: str, runs: bool = True) -> Callable[..., Meter]:
    """Register a function (Subject) -> Reading as a meter."""

    def register(measure: Callable[[Subject], Reading]) -> Meter:
        _METERS[name] = Meter(name, label, sees, cannot_see, runs, measure)
        return _METERS[name]

    return register


def meters() -> dict[str, Meter]:
    """All meters by name; this folder is searched when first asked."""
    package = importlib.import_module("ckptgrad.meters")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "resident_process":
            importlib.import_module(f"ckptgrad.meters.{module.name}")
    return dict(sorted(_METERS.items()))


def get_meters(names: str | Sequence[str]) -> list[Meter]:
    """Meters by name: a sequence, or a text with commas between; "all" for all of them, "none" for none.

    Raises:
        OptionError: one is unknown.
    """
    known = meters()
    if names in ("all", "none"):
        return list(known.values()) if names == "all" else []
    asked = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in asked:
        if name not in known:
            raise OptionError(f"there is no meter {name!r}; there are {', '.join(known)}, 'all' and 'none'")
    return [known[name] for name in asked]
