"""The recurrences of `tables`, compiled by numba, which is imported on the first use only.

Regime: chains beyond a few dozen stages. Importing numba costs about a second and the very first compilation
several (then cached on disk), so small chains run the same functions interpreted.
Does not: contain a recurrence, or a loop.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

from ckptgrad.planning.optimal import recurrences as tables


@cache
def compiled_tables() -> SimpleNamespace:
    """`fill_least` and `fill_times` as machine code."""
    import numba
    from numba.extending import overload, register_jitable

    called = (tables.option_needs, tables.walk_heads, tables.relax_keeps, tables.relax_splits, tables.relax)
    for function in called:
        register_jitable(function)
    overload(tables.lower, strict=False)(lambda *_: tables.lower_in_loops)
    overload(tables.settle, strict=False)(lambda *_: tables.settle_in_loops)
    return SimpleNamespace(
        fill_least=numba.njit(cache=True)(tables.fill_least),
        fill_times=numba.njit(cache=True)(tables.fill_times),
    )
