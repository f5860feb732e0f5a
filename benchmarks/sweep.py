"""Ten models over many budgets: certified peaks against budgets and predictions.

    python benchmarks/sweep.py [--budgets 30] [MODEL ...]

Budgets go from the smallest certified peak to that of storing all, in equal ratios.  "Off" is how far XLA's peak is from
the predicted one; "rounds" how many plans were compiled until one fitted; "slower" how much slower (estimated) the
smallest budget is than the largest.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Annotated

import jax
import numpy as np
import typer
from models import SWEEP
from rich.console import Console
from rich.table import Table

import ckptgrad as cg

COLUMNS = ("model", "MiB", "kept", "monotone", "rounds, mean and most", "off, median", "off, worst", "slower")


def row(name: str, count: int) -> tuple[list[str], list[float]]:
    """The cells of a model, and how far off its predictions were."""
    make, sizes = SWEEP[name]
    loss, args = make(**sizes)
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    least = cg.grad(loss, budget="min").compile(*args).peak_bytes
    most = cg.grad(loss, policy="store_all").compile(*args).peak_bytes
    budgets = [int(b) for b in np.geomspace(least, most, count)]
    found = [cg.grad(loss, budget=b).compile(*args) for b in budgets]
    kept = sum(f.peak_bytes <= b for f, b in zip(found, budgets, strict=True))
    seconds = [f.plan.seconds for f in found]
    monotone = all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(seconds))
    off = [abs(f.peak_bytes / f.plan.peak_bytes - 1) for f in found]
    rounds = [f.rounds for f in found]
    cells = [
        name, f"{least / 2**20:.1f} to {most / 2**20:.1f}", f"{kept} of {count}", "yes" if monotone else "NO",
        f"{statistics.mean(rounds):.1f}, {max(rounds)}", f"{statistics.median(off):.1%}", f"{max(off):.1%}",
        f"{seconds[0] / seconds[-1]:.2f}",
    ]  # fmt: skip
    return cells, off


def main(models: Annotated[list[str] | None, typer.Argument()] = None, budgets: int = 30) -> None:
    """Print the table."""
    table = Table(*COLUMNS)
    errors: list[float] = []
    for name in models or SWEEP:
        cells, off = row(name, budgets)
        table.add_row(*cells)
        errors += off
    table.add_row("all", "", "", "", "", f"{statistics.median(errors):.1%}", f"{max(errors):.1%}", "", style="bold")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
