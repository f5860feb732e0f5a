"""The registry of cases: a case is a generator of rows.

Laws: a case yields each row as soon as it is known; yields a row with a reason for each run it leaves out; never fails
because a peer is not installed; and takes seconds at its quick size.
To add one: put a file with a `@case(...)` function into `cases/`; it is discovered automatically.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, TypeVar

from ckptgrad.bench.rows import Row
from ckptgrad.errors import CkptgradError

Size = TypeVar("Size")


class CaseError(CkptgradError):
    """A case's name is unknown or already registered."""


@dataclass(frozen=True)
class Bench:
    """How a case is asked to run.

    Attributes:
        quick: run in seconds, to see that it works; the figures mean nothing.
        announce: called with a few words on what is running.
    """

    quick: bool = False
    announce: Callable[[str], None] = lambda _: None

    def size(self, full: Size, quick: Size) -> Size:
        """The size to run at."""
        return quick if self.quick else full


Run: TypeAlias = Callable[[Bench], Iterator[Row]]


@dataclass(frozen=True)
class Curves:
    """How rows are drawn: one panel per value in `panels`, against the value `x`, with one line per run."""

    x: str
    panels: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A registered case."""

    name: str
    title: str
    about: str
    run: Run
    curves: Curves | None = None


_REGISTRY: dict[str, Case] = {}


def case(name: str, title: str, about: str = "", curves: Curves | None = None) -> Callable[[Run], Run]:
    """Register the decorated function as case `name`.

    Args:
        name: its name on the command line.
        title: one line on what is compared.
        about: what the columns mean; by default the function's docstring.
        curves: how to draw its rows, if they are drawn.
    """

    def register(run: Run) -> Run:
        if name in _REGISTRY:
            raise CaseError(f"case {name!r} is already registered; choose another name")
        _REGISTRY[name] = Case(name, title, about or inspect.getdoc(run) or "", run, curves)
        return run

    return register


def unregister(name: str) -> None:
    """Remove case `name`, so that the name is free again.

    Raises:
        CaseError: there is no such case.
    """
    if _REGISTRY.pop(name, None) is None:
        raise CaseError(f"unknown case {name!r}")


def registered() -> dict[str, Case]:
    """All cases by name, sorted by name."""
    _discover()
    return dict(sorted(_REGISTRY.items()))


def get_cases(names: list[str]) -> list[Case]:
    """The cases with these names; all of them if there are no names.

    The beginning of a name, up to a hyphen, stands for all cases whose names begin so: "targets", "targets-h100".

    Raises:
        CaseError: a name is unknown.
    """
    known = registered()
    chosen: dict[str, Case] = {}
    for name in names:
        family = {n: c for n, c in known.items() if n == name or n.startswith(f"{name}-")}
        if not family:
            raise CaseError(f"unknown case {name!r}; choose from {', '.join(known)}")
        chosen |= {name: family[name]} if name in family else family
    return list(chosen.values()) if names else list(known.values())


@cache
def _discover() -> None:
    folder = importlib.import_module("ckptgrad.bench.cases")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
