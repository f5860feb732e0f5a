"""Advice: sentences that are computed from a plan, with the figures that they state.

To add a kind: a file in this folder with a function that takes a plan and yields sentences with their figures, decorated
with `@adviser(order=...)`; it is found from there. It says only what follows from the plan for this very program, and
nothing where it does not apply. It runs when a plan is shown, so it may take about as long as planning once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# A sentence and its figures.
Sentence: TypeAlias = tuple[str, Mapping[str, Any]]
Adviser: TypeAlias = "Callable[[Plan], Iterator[Sentence]]"


@dataclass(frozen=True)
class Advice:
    """A sentence about a plan.

    Attributes:
        kind: the file that it comes from: "peak", "budgets", ...
        text: the sentence.
        figures: what it states, in bytes, seconds and ratios.
    """

    kind: str
    text: str
    figures: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "text": self.text, "figures": dict(self.figures)}


_REGISTRY: dict[str, tuple[int, Adviser]] = {}


def adviser(*, order: int) -> Callable[[Adviser], Adviser]:
    """Register the decorated function under the name of its file; `order` is the place of its sentences among others."""

    def register(function: Adviser) -> Adviser:
        _REGISTRY[function.__module__.rpartition(".")[2]] = order, function
        return function

    return register


def advice_on(plan: Plan) -> tuple[Advice, ...]:
    """All advice on a plan, in the order in which it is shown."""
    _discover()
    known = sorted(_REGISTRY.items(), key=lambda item: item[1][0])
    return tuple(Advice(kind, *sentence) for kind, (_, advise) in known for sentence in advise(plan))


@cache
def _discover() -> None:
    folder = importlib.import_module("ckptgrad.results.advice")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
