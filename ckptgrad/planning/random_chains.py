"""Seeded random chains, uneven or of the classical model, on which benchmarks and tests try the planner."""

from __future__ import annotations

import random
from dataclasses import replace

from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


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
    """An uneven chain of sizes up to `largest` bytes, whose result has no bytes, as good as a scalar loss.

    `reads` is the chance that a backward reads its stage's input, and that it reads its output. A forward
    that keeps residuals needs no larger transients than one that does not, so that forwarding twice on the
    spot never helps. `hides` is the chance that a forward without output takes more than its transient, up to
    the output's bytes, as scratch in its place would; and that it is faster. All cotangents have `cotangent`
    bytes; None draws them.
    """
    # What hides has generators of its own: the other numbers of a seed do not depend on these.
    draw, draw_hidden, draw_saved = (random.Random(s) for s in (seed, f"hidden {seed}", f"saved {seed}"))
    stages: list[StageCost] = []
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
        plain = draw.uniform(0.1, 1)
        saved = [min(o.forward_time, plain) * draw_saved.random() * (draw_saved.random() < hides) for o in choices]
        choices = tuple(replace(o, hidden_bytes=b, output_time=t) for o, b, t in zip(choices, hidden, saved, strict=True))
        stages.append(StageCost(choices, output, arriving, plain, transient))
    first = draw.randint(0, largest) if cotangent is None else cotangent
    return ChainCosts(tuple(stages), draw.randint(0, largest), first, draw.randint(0, 3))


def simple_chain(n: int, options: int, seed: int) -> ChainCosts:
    """An uneven chain of the classical model: backwards read residuals only, cotangents are equal, forwards hide nothing."""
    return random_chain(n, options, seed, reads=0.0, hides=0.0, cotangent=4)


def mixed_units(n: int, *, residual_bytes: int = 1) -> ChainCosts:
    """A chain of the mixed model: unit boundaries, no result, backwards that read residuals only."""
    costs = ChainCosts.uniform(n, residual_bytes=residual_bytes, cotangent_bytes=0)
    return replace(costs, stages=(*costs.stages[:-1], replace(costs.stages[-1], boundary_bytes=0)))
