"""A budget in bytes, for a chain whose costs are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ckptgrad.bytes import Budget, format_bytes, is_share, resolve_budget
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.nested import keep_most, write_nested
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak


@lru_cache(maxsize=2)
def everything_peak(costs: ChainCosts) -> int:
    """Predicted peak in bytes when all is stored: nothing expensive is computed twice, not even inside a stage."""
    return write_nested(costs, keep_most(costs)).peak


def budget_bytes(budget: Budget, costs: ChainCosts, free: Callable[[], int]) -> int | None:
    """A budget in bytes for a chain of these costs; None for no budget; `free` tells how many are free now."""
    return resolve_budget(budget, lambda: everything_peak(costs), lambda: minimum_peak(costs)[0], free)


def share_words(budget: Budget, costs: ChainCosts) -> str:
    """What a budget that is a share is one of, in words: estimates and compilers differ in it; empty for other budgets."""
    if not is_share(budget):
        return ""
    return f"{str(budget).strip()} of the {format_bytes(everything_peak(costs))} that storing everything takes"
