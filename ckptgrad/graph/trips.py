"""How often loops turn whose bounds are known only when they run, stated where a compiled program still shows it.

A compiler counts the trips of a loop with constant bounds.  Of other loops the name of a scope around them says how often
they turn on average; it becomes part of the loop's name in the compiled program.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from contextlib import contextmanager

import jax

_SCOPE = "trips_"
_STATED = re.compile(rf"(?:^|/){_SCOPE}(\d+(?:\.\d+)?)/while$")


@contextmanager
def stating_trips(average: float | None) -> Generator[None]:
    """A context in which one loop is written that turns this often on average; None where that is not known."""
    with contextlib.nullcontext() if average is None else jax.named_scope(f"{_SCOPE}{average:.9f}"):
        yield


def states_trips(scope: str) -> bool:
    """Whether one scope says only how often a loop turns."""
    return _STATED.search(f"{scope}/while") is not None


def stated_trips(name: str) -> float | None:
    """How often a loop turns, by its name in a compiled program; None where that does not say it."""
    found = _STATED.search(name)
    return None if found is None else float(found[1])
