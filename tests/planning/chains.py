"""Chains to plan for: seeded random ones, and hypothesis strategies over uneven chains."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, SaveOption, StageCost


def random_chain(
    n: int,
    options: int,
    seed: int,
    *,
    largest: int = 12,
    restart: int = 6,
    reads: float = 0.5,
    cotangent: int | None = None,
) -> ChainCosts:
    """An uneven chain of sizes up to `largest` bytes that ends in a result of no bytes, as a scalar loss
    about has.

    `reads` is the chance that a backward reads its stage's input, and that it reads its output. A forward
    that keeps residuals needs no larger transients than one that does not, so that forwarding twice on the
    spot never helps. All cotangents have `cotangent` bytes; None draws them.
    """
    draw = random.Random(seed)
    stages = []
    for i in range(n):
        transient = draw.randint(0, largest // 3)
        choices = tuple(
            SaveOption(
                f"option {k}",
                draw.randint(0, largest),
                draw.random() < reads,
                draw.random() < reads,
                draw.uniform(0.1, 1),
                draw.uniform(0.1, 2),
                draw.randint(0, transient),
                draw.randint(0, largest // 3),
            )
            for k in range(options)
        )
        output, arriving = (0, 0) if i == n - 1 else (draw.randint(1, largest), draw.randint(0, largest))
        arriving = arriving if cotangent is None else cotangent
        again = draw.choice((0, draw.randint(0, restart)))
        stages.append(StageCost(choices, output, arriving, draw.uniform(0.1, 1), transient, again))
    first = draw.randint(0, largest) if cotangent is None else cotangent
    return ChainCosts(tuple(stages), draw.randint(0, largest), first, draw.randint(0, 3))


def simple_chain(n: int, options: int, seed: int) -> ChainCosts:
    """Uneven, but backwards read residuals only, cotangents are equal, restarts free: the classical model."""
    return random_chain(n, options, seed, restart=0, reads=0.0, cotangent=4)


def mixed_units(n: int, *, residual_bytes: int = 1) -> ChainCosts:
    """Unit boundaries and residuals, no result, backwards that read residuals only: the mixed model."""
    costs = ChainCosts.uniform(n, residual_bytes=residual_bytes, cotangent_bytes=0)
    return replace(costs, stages=(*costs.stages[:-1], replace(costs.stages[-1], boundary_bytes=0)))


@st.composite
def chains(draw: st.DrawFn, longest: int = 7, options: int = 3) -> ChainCosts:
    """Uneven chains of small integers, so that plans need no rounding."""
    sizes, seconds = st.integers(0, 9), st.integers(1, 9)
    option = st.builds(
        SaveOption,
        st.just("drawn"),
        sizes,
        st.booleans(),
        st.booleans(),
        seconds,
        seconds,
        st.integers(0, 3),
        st.integers(0, 3),
    )
    stage = st.builds(
        StageCost,
        st.lists(option, min_size=1, max_size=options).map(tuple),
        sizes,
        sizes,
        seconds,
        st.integers(0, 3),
        st.sampled_from((0, 0, 2, 7)),
    )
    stages = draw(st.lists(stage, min_size=1, max_size=longest).map(tuple))
    return ChainCosts(stages, draw(sizes), draw(sizes), draw(st.integers(0, 3)))
