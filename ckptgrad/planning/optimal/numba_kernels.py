"""The recurrences compiled by numba, which is imported on the first use only, and need not be installed.

Regime: chains beyond a few dozen stages. Importing numba costs about a second and the very first compilation
several (cached on disk from then on), so small chains run the same functions interpreted; without numba all chains do.
Does not: contain a recurrence, or a loop.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from ckptgrad.planning.optimal import recurrences


class Kernels(NamedTuple):
    """`fill_least` and `fill_times` as machine code; they take arrays where the interpreted ones take lists."""

    fill_least: Callable[..., None]
    fill_times: Callable[..., None]


@cache
def compiled_kernels() -> Kernels | None:
    """The compiled recurrences; None where numba is not installed, which a warning says once."""
    try:
        numba: Any = importlib.import_module("numba")
        extending: Any = importlib.import_module("numba.extending")
    except ImportError:
        warnings.warn(
            "numba is not installed, so planning a chain of many different stages takes about twenty times as long; "
            "pip install 'ckptgrad[fast]'",
            stacklevel=2,
        )
        return None
    called: tuple[Callable[..., Any], ...] = (
        recurrences.option_needs,
        recurrences.walk_heads,
        recurrences.relax_keeps,
        recurrences.relax_splits,
        recurrences.relax,
    )
    for function in called:
        extending.register_jitable(function)
    extending.overload(recurrences.lower, strict=False)(_always(recurrences.lower_in_loops))
    extending.overload(recurrences.settle, strict=False)(_always(recurrences.settle_in_loops))
    compiled = numba.njit(cache=True)
    return Kernels(compiled(recurrences.fill_least), compiled(recurrences.fill_times))


def _always(function: Callable[..., Any]) -> Callable[..., Any]:
    """What numba asks for an implementation, whatever the types are."""

    def implementation(*_: Any) -> Callable[..., Any]:
        return function

    return implementation
