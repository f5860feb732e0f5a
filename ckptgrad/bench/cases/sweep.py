"""Ten models over many budgets: certified peaks against budgets and predictions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator

import jax
import numpy as np

import ckptgrad as cg
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.example_models import SWEEP, Problem

BUDGETS = 30


@case("sweep", "Ten models over thirty budgets each: kept, monotone, and how far off predictions are")
def sweep(bench: Bench) -> Iterator[Row]:
    """Budgets run from the smallest certified peak to that of storing everything, in equal ratios.

    "Kept" counts the budgets that XLA's peak does not exceed; "monotone" says whether a larger budget never has a plan with
    a longer estimated time; "plans compiled" is how many were compiled until one fitted; "off" is the distance of XLA's peak
    from the predicted one; "slower" is the estimated time at the smallest budget relative to that at the largest.
    """
    errors: list[float] = []
    for name in bench.size(tuple(SWEEP), ("tanh",)):
        bench.announce(name)
        make, sizes = SWEEP[name]
        loss, args = make(**sizes)
        types = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
        model_row, off = sweep_model(name, (loss, types), bench.size(BUDGETS, 3))
        errors += off
        yield model_row
    yield row("all", off_median_share=statistics.median(errors), off_worst_share=max(errors))


def sweep_model(
    name: str, problem: Problem, count: int, *, target: cg.Target | None = None, group: str = ""
) -> tuple[Row, list[float]]:
    """A model's row, and how far off each prediction was.

    Args:
        name: of the model.
        problem: its loss and arguments, which may be types.
        count: the number of budgets.
        target: what is compiled for; None for what is attached.
        group: the group of the row.
    """
    loss, args = problem
    least = cg.grad(loss, budget="min", target=target).compile(*args).peak_bytes
    most = cg.grad(loss, policy="store_all", target=target).compile(*args).peak_bytes
    budgets = [int(b) for b in np.geomspace(least, most, count)]
    certified = [cg.grad(loss, budget=b, target=target).compile(*args) for b in budgets]
    seconds = [c.plan.seconds for c in certified]
    off = [abs(c.peak_bytes / c.plan.peak_bytes - 1) for c in certified]
    rounds = [c.rounds for c in certified]
    model_row = row(
        name,
        group,
        smallest_bytes=least,
        largest_bytes=most,
        budgets=count,
        kept=sum(c.peak_bytes <= b for c, b in zip(certified, budgets, strict=True)),
        monotone=all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(seconds)),
        plans_compiled_mean=statistics.mean(rounds),
        plans_compiled_most=max(rounds),
        off_median_share=statistics.median(off),
        off_worst_share=max(off),
        slower_ratio=seconds[0] / seconds[-1],
    )
    return model_row, off
