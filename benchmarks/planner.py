"""How long planning takes, and how far the optimal policy is from the fastest schedule of all.

Run as `python -m benchmarks.planner`, or with `--only times` or `--only gaps`. Times are those of one whole
plan in a warm process, the best of a few. Gaps are counted over random uneven chains, against an exhaustive
search.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ckptgrad.planning import ChainCosts, get_policy, minimum_peak, simulate
from tests.planning.chains import random_chain, simple_chain
from tests.planning.exhaustive import least_time

BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, float("inf"))


def equal_middle(n: int, options: int) -> ChainCosts:
    """n equal stages between a different first and last one."""
    first, middle, last = random_chain(3, options, seed=5, largest=10**6).stages
    return ChainCosts((first, *[middle] * (n - 2), last), 10**6, 10**6)


def uneven(n: int, options: int) -> ChainCosts:
    """n different stages."""
    return random_chain(n, options, seed=1, largest=10**6)


def solver_times(repeats: int) -> Table:
    """Seconds of one plan at a third of the way from the smallest peak to that of storing all."""
    table = Table("chain", "options", "budget", "seconds", "step time over store-all's", title="Optimal policy")
    rows: list[tuple[str, Callable[[int, int], ChainCosts], int]] = [
        ("uneven", uneven, 14),
        ("uneven", uneven, 100),
        ("uneven", uneven, 340),
        ("equal but first and last", equal_middle, 1000),
    ]
    for name, make, n in rows:
        for options in (1, 4):
            costs = make(n, options)
            smallest, whole = minimum_peak(costs)[0], simulate(get_policy("store_all")(costs, None), costs)
            budget = smallest + (whole.peak - smallest) // 3
            get_policy("optimal")(costs, budget)
            seconds = float("inf")
            for _ in range(repeats):
                start = time.perf_counter()
                schedule = get_policy("optimal")(costs, budget)
                seconds = min(seconds, time.perf_counter() - start)
            ratio = simulate(schedule, costs).time / whole.time
            table.add_row(f"{n} {name}", str(options), f"{budget / whole.peak:.0%}", f"{seconds:.3f}", f"{ratio:.3f}")
    return table


def gaps(make: Callable[[int, int, int], ChainCosts], title: str, instances: int) -> Table:
    """How much slower than the fastest schedule of all, over budgets drawn between the two extremes."""
    draw = random.Random(0)
    found: list[float] = []
    lower = 0
    for seed in range(instances):
        costs = make(draw.choice((3, 4, 5)), draw.choice((1, 2)), seed)
        smallest = minimum_peak(costs)[0]
        largest = simulate(get_policy("store_all")(costs, None), costs).peak
        budget = draw.randint(smallest, max(smallest, largest - 1))
        bound = least_time(costs, budget)
        assert bound is not None
        found.append(simulate(get_policy("optimal")(costs, budget), costs).time / bound - 1)
        lower += least_time(costs, smallest - 1) is not None
    slower = [gap for gap in found if gap > 1e-9]
    table = Table("slower by", "instances", title=title)
    table.add_row("nothing", str(len(found) - len(slower)))
    counts = Counter(next(i for i, edge in enumerate(BINS) if gap <= edge) for gap in slower)
    for i in range(1, len(BINS)):
        upper = f" to {BINS[i]:.0%}" if i < len(BINS) - 1 else " and more"
        table.add_row(f"{BINS[i - 1]:.0%}{upper}", str(counts[i]))
    table.add_row("mean of the slower", f"{sum(slower) / max(1, len(slower)):.1%}", style="bold")
    table.add_row("most", f"{max(found):.1%}", style="bold")
    table.add_row("less memory possible", str(lower), style="bold")
    return table


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("times", "gaps"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--instances", type=int, default=200)
    arguments = parser.parse_args()
    console = Console()
    if arguments.only != "gaps":
        console.print(solver_times(arguments.repeats))
    if arguments.only != "times":
        classical = "Backwards that read residuals only, equal cotangents"
        console.print(gaps(simple_chain, classical, arguments.instances))
        console.print(gaps(random_chain, "Anything goes", arguments.instances))


if __name__ == "__main__":
    main()
