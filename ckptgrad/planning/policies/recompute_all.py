"""Recompute all: hold every boundary, and forward each stage again just before its backward.

Aliases: `jax.checkpoint` around every stage, full activation recomputation, every-k with k = 1.
Regime: boundaries are small beside the residuals inside a stage, as in transformers.
Does not: drop boundaries, or choose among save options (it keeps the fastest, for one stage at a time).
"""

from __future__ import annotations

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.policies.every_k import CHEN, segments_of_k
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule


@policy("recompute_all", references=(CHEN,))
def recompute_all(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """Hold boundaries only; the last stage alone runs forward once. `budget` in bytes."""
    return segments_of_k(costs, 1).finish("recompute_all", budget)
