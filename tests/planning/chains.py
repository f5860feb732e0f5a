"""Chains to plan for: seeded random ones, and hypothesis strategies over uneven chains."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, SaveOption, StageCost

SIZES = st.integers(0, 9)


def random_chain(
    n: int,
    options: int,
    seed: int,
    *,
    largest: int = 12,
    reads: float = 0.5,
    hides: float = 0.5,
    cotangent: int | None = None,
) -> ChainCosts:
    """An uneven chain of sizes up to `largest` bytes that ends in a result of no bytes, as a scalar loss
    about has.

    `reads` is the chance that a backward reads its stage's input, and that it reads its output. A forward
    that keeps residuals needs no larger transients than one that does not, so that forwarding twice on the
    spot never helps. `hides` is the chance that a forward without output takes more than its transient: up to
    the output's bytes, as scratch in its place would. All cotangents have `cotangent` bytes; None draws them.
    """
    # Hidden bytes have their own generator: the other numbers of a seed do not depend on them.
    draw, draw_hidden = random.Random(seed), random.Random(f"hidden {seed}")
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
        hidden = [draw_hidden.randint(0, output) if draw_hidden.random() < hides else 0 for _ in choices]
        choices = tuple(replace(o, hidden_bytes=b) for o, b in zip(choices, hidden, strict=True))
        stages.append(StageCost(choices, output, arriving, draw.uniform(0.1, 1), transient))
    first = draw.randint(0, largest) if cotangent is None else cotangent
    return ChainCosts(tuple(stages), draw.randint(0, largest), first, draw.randint(0, 3))


def simple_chain(n: int, options: int, seed: int) -> ChainCosts:
    """Uneven, but backwards read residuals only, cotangents are equal, forwards hide nothing: the classical model."""
    return random_chain(n, options, seed, reads=0.0, hides=0.0, cotangent=4)


def mixed_units(n: int, *, residual_bytes: int = 1) -> ChainCosts:
    """Unit boundaries and residuals, no result, backwards that read residuals only: the mixed model."""
    costs = ChainCosts.uniform(n, residual_bytes=residual_bytes, cotangent_bytes=0)
    return replace(costs, stages=(*costs.stages[:-1], replace(costs.stages[-1], boundary_bytes=0)))


@st.composite
def _stages(draw: st.DrawFn, options: int) -> StageCost:
    boundary_bytes, seconds = draw(SIZES), st.integers(1, 9)
    option = st.builds(
        SaveOption,
        st.just("drawn"),
        SIZES,
        st.booleans(),
        st.booleans(),
        seconds,
        seconds,
        st.integers(0, 3),
        st.integers(0, 3),
        st.just(0) | st.integers(0, boundary_bytes),
    )
    choices = draw(st.lists(option, min_size=1, max_size=options).map(tuple))
    return StageCost(choices, boundary_bytes, draw(SIZES), draw(seconds), draw(st.integers(0, 3)))


@st.composite
def chains(draw: st.DrawFn, longest: int = 7, options: int = 3) -> ChainCosts:
    """Uneven chains of small integers, so that plans need no rounding."""
    stages = draw(st.lists(_stages(options), min_size=1, max_size=longest).map(tuple))
    return ChainCosts(stages, draw(SIZES), draw(SIZES), draw(st.integers(0, 3)))
