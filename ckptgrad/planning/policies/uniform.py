"""Uniform: each stage runs forward once, and all stages of equal cost keep the same.

Aliases: one remat policy for every layer (`jax.checkpoint_policies`), selective activation recomputation.
Regime: many equal layers. A compiler packs what equal layers hold into the same places, so that predictions hold.
Does not: treat equal stages differently, run one forward twice, or search all combinations of what stages keep.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.nested import keep_by, write_nested
from ckptgrad.planning.policy import policy
from ckptgrad.planning.schedule import Schedule

KORTHIKANTI = "Korthikanti et al. 2022, Reducing activation recomputation in large transformer models"
# At most this many prices of a byte are tried.
MOST_PRICES = 64


@policy("uniform", references=(KORTHIKANTI,))
def uniform(costs: ChainCosts, budget: int | None = None) -> Schedule:
    """The fastest schedule within `budget` bytes among those that are best at some price of a byte in seconds."""
    writers = [write_nested(costs, keep_by(costs, lambda stage, p=price: _best(stage, p))) for price in _prices(costs)]
    fitting = [writer for writer in writers if writer.fits(budget)]
    chosen = min(fitting, key=lambda w: (w.time, w.peak)) if fitting else min(writers, key=lambda w: w.peak)
    return chosen.finish("uniform", budget)


def _prices(costs: ChainCosts) -> list[float]:
    """The prices at which some choice changes, rising from 0 to the one at which the fewest bytes are kept."""
    exchanged: set[float] = set()
    for stage in {id(stage): stage for stage in costs.stages}.values():
        exchanged.update(_exchanges(stage))
    prices = [0.0, *sorted(exchanged)]
    step = -(-len(prices) // MOST_PRICES)
    return sorted({*prices[::step], prices[-1]})


def _exchanges(stage: StageCost) -> Iterator[float]:
    """The seconds per byte of exchanging one option for another that keeps less."""
    for more in stage.options:
        for less in stage.options:
            bytes_, seconds = more.residual_bytes - less.residual_bytes, less.time - more.time
            if bytes_ > 0 and seconds > 0:
                yield seconds / bytes_


def _best(stage: StageCost, price: float) -> int:
    """The option that is best at a price; of equally good ones that of the fewest bytes."""
    ranks = [(option.time + price * option.residual_bytes, option.residual_bytes) for option in stage.options]
    # Exactly at the price of an exchange the two sums differ by rounding only.
    least = (1 + 1e-12) * min(ranks)[0]
    return min((k for k, rank in enumerate(ranks) if rank[0] <= least), key=lambda k: ranks[k][1])
