"""Chains to plan for: seeded random ones, and hypothesis strategies over uneven chains."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, SaveOption, StageCost


def random_chain(
    n: int,
    options: int,
    seed: int,
    *,
    largest: int = 12,
    transient: int = 4,
    restart: int = 6,
    reads: float = 0.5,
) -> ChainCosts:
    """An uneven chain; sizes up to `largest` bytes, options that differ in bytes, time and what they read.

    `reads` is the chance that a backward reads its stage's input, and that it reads its output.
    """
    draw = random.Random(seed)
    stages = []
    for _ in range(n):
        choices = tuple(
            SaveOption(
                f"option {k}",
                draw.randint(0, largest),
                draw.random() < reads,
                draw.random() < reads,
                draw.uniform(0.1, 1),
                draw.uniform(0.1, 2),
                draw.randint(0, transient),
                draw.randint(0, transient),
            )
            for k in range(options)
        )
        stages.append(
            StageCost(
                choices,
                draw.randint(1, largest),
                draw.randint(0, largest),
                draw.uniform(0.1, 1),
                draw.randint(0, transient),
                draw.choice((0, draw.randint(0, restart))),
            )
        )
    return ChainCosts(tuple(stages), draw.randint(0, largest), draw.randint(0, largest), draw.randint(0, 3))


def mixed_units(n: int) -> ChainCosts:
    """Unit boundaries and residuals, a backward that reads residuals only: mixed checkpointing's model."""
    return ChainCosts.uniform(n, cotangent_bytes=0)


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
