"""The registry of cases: a case is a generator of rows.

Laws: a case yields a row as soon as it is known, says a run that is left out by a row with a reason, never fails because a
peer is not installed, and takes seconds when asked to be quick.
To add one: put a file with a `@case(...)` function into `cases/`; it is found by itself.
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
    """A case's name is unknown or taken."""


@dataclass(frozen=True)
class Bench:
    """What a case is given.

    Attributes:
        quick: whether to take seconds rather than to find figures worth reading.
        doing: told in a few words what is running.
    """

    quick: bool = False
    doing: Callable[[str], None] = lambda _: None

    def size(self, full: Size, quick: Size) -> Size:
        """The one of the two that was asked for."""
        return quick if self.quick else full


Run: TypeAlias = Callable[[Bench], Iterator[Row]]


@dataclass(frozen=True)
class Curves:
    """How rows are drawn: a panel for each of `panels`, over `x`, a line for each run; all are names of values."""

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
        name: as the command line takes it.
        title: one line, what is compared.
        about: what the columns mean; the function's docstring if not given.
        curves: how to draw its rows.
    """

    def register(run: Run) -> Run:
        if name in _REGISTRY:
            raise CaseError(f"case {name!r} is registered already; choose another name")
        _REGISTRY[name] = Case(name, title, about or inspect.getdoc(run) or "", run, curves)
        return run

    return register


def registered() -> dict[str, Case]:
    """All cases by name, in the order of their names."""
    _discover()
    return dict(sorted(_REGISTRY.items()))


def get_cases(names: list[str]) -> list[Case]:
    """The cases of these names, or all of them for none.

    Raises:
        CaseError: there is no such case.
    """
    known = registered()
    for name in names:
        if name not in known:
            raise CaseError(f"no case is called {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


@cache
def _discover() -> None:
    folder = importlib.import_module("ckptgrad.bench.cases")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
