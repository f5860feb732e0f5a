"""Sqrt: segments of about sqrt(n) stages, so that held boundaries and one segment's residuals balance.

Aliases: Chen's sublinear memory cost, sqrt(n) checkpointing. Regime: equal stages, whose residuals weigh
about as much as their boundaries; one extra forward.
Does not: adapt to a budget (every-k does) or to uneven stages (optimal does).
"""

from __future__ import annotations

import math

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.policies.every_k import CHEN, segments_of_k
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule


@policy("sqrt", references=(CHEN,))
def sqrt(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """Segments of ceil(sqrt(n)) stages. `budget` in bytes."""
    k = math.isqrt(len(costs) - 1) + 1
    return segments_of_k(costs, k).finish("sqrt", budget)
