"""Store all: keep every stage's fastest save option, recompute nothing.

Aliases: plain reverse mode, vanilla backpropagation. Regime: the chain fits.
Does not: trade time for memory: below its peak it raises BudgetError.
"""

from __future__ import annotations

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.nested import keep_fastest, write_nested
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule


@policy("store_all", references=("Linnainmaa 1976, Taylor expansion of the accumulated rounding error",))
def store_all(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """Keep everything. `budget` in bytes."""
    return write_nested(costs, keep_fastest(costs)).finish("store_all", budget)
