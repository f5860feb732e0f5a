"""Ten models over many budgets: certified peaks against budgets and predictions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator

import jax
import numpy as np

import ckptgrad as cg
from ckptgrad.bench.models import SWEEP
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row

BUDGETS = 30


@case("sweep", "Ten models over thirty budgets each: kept, monotone, and how far off predictions are")
def sweep(bench: Bench) -> Iterator[Row]:
    """Budgets go from the smallest certified peak to that of storing all, in equal ratios.

    "Off" is how far XLA's peak is from the predicted one; "plans compiled" is how many until one fitted; "monotone" is
    whether no larger budget has a plan estimated slower; "slower" is the estimated time at the smallest budget against that
    at the largest.
    """
    errors: list[float] = []
    for name in bench.size(tuple(SWEEP), ("tanh",)):
        bench.doing(name)
        found, off = swept(name, bench.size(BUDGETS, 3))
        errors += off
        yield found
    yield row("all", off_median_share=statistics.median(errors), off_worst_share=max(errors))


def swept(name: str, count: int) -> tuple[Row, list[float]]:
    """The row of a model, and how far off each prediction was."""
    make, sizes = SWEEP[name]
    loss, args = make(**sizes)
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    least = cg.grad(loss, budget="min").compile(*args).peak_bytes
    most = cg.grad(loss, policy="store_all").compile(*args).peak_bytes
    budgets = [int(b) for b in np.geomspace(least, most, count)]
    found = [cg.grad(loss, budget=b).compile(*args) for b in budgets]
    seconds = [f.plan.seconds for f in found]
    off = [abs(f.peak_bytes / f.plan.peak_bytes - 1) for f in found]
    rounds = [f.rounds for f in found]
    values = row(
        name,
        smallest_bytes=least,
        largest_bytes=most,
        budgets=count,
        kept=sum(f.peak_bytes <= b for f, b in zip(found, budgets, strict=True)),
        monotone=all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(seconds)),
        plans_compiled_mean=statistics.mean(rounds),
        plans_compiled_most=max(rounds),
        off_median_share=statistics.median(off),
        off_worst_share=max(off),
        slower_ratio=seconds[0] / seconds[-1],
    )
    return values, off
