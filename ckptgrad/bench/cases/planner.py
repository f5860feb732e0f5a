"""How long planning takes, and how far the optimal policy is from the fastest schedule of all."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.planning import ChainCosts, get_policy, minimum_peak
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.random_chains import random_chain, simple_chain
from ckptgrad.planning.referee import simulate

REPEATS = 3
INSTANCES = 200


def equal_middle(n: int, options: int) -> ChainCosts:
    """n equal stages between a different first and last one."""
    first, middle, last = random_chain(3, options, seed=5, largest=10**6).stages
    return ChainCosts((first, *[middle] * (n - 2), last), 10**6, 10**6)


def uneven(n: int, options: int) -> ChainCosts:
    """n different stages."""
    return random_chain(n, options, seed=1, largest=10**6)


CHAINS: tuple[tuple[str, Callable[[int, int], ChainCosts], int], ...] = (
    ("uneven", uneven, 14),
    ("uneven", uneven, 100),
    ("uneven", uneven, 340),
    ("equal but first and last", equal_middle, 1000),
)


@case("planner-times", "Seconds of planning, chain by chain")
def plan_times(bench: Bench) -> Iterator[Row]:
    """One whole plan in a warm process, the best of a few, at a budget a third of the way from the smallest peak to that of
    storing all; the estimated time of a step is against storing all."""
    for name, make, n in bench.size(CHAINS, CHAINS[:1]):
        for options in (1, 4):
            bench.doing(f"{n} {name}, {options} options")
            costs = make(n, options)
            smallest, whole = minimum_peak(costs)[0], simulate(get_policy("store_all")(costs, None), costs)
            budget = smallest + (whole.peak - smallest) // 3
            schedule, seconds = get_policy("optimal")(costs, budget), []
            for _ in range(bench.size(REPEATS, 1)):
                start = time.perf_counter()
                schedule = get_policy("optimal")(costs, budget)
                seconds.append(time.perf_counter() - start)
            ratio = simulate(schedule, costs).time / whole.time
            run = f"{options} option{'s' * (options > 1)}"
            share = budget / whole.peak
            yield row(run, f"{n:,} {name}", budget_share=share, plan_seconds=min(seconds), estimated_time_ratio=ratio)


@case("planner-gaps", "How near the optimal policy is to an exhaustive search over all schedules")
def gaps(bench: Bench) -> Iterator[Row]:
    """Random chains of 3 to 5 stages with one or two save options, at budgets drawn between the two extremes.

    In the classical model backwards read residuals only; in uneven chains they may read inputs and outputs. "Slower" counts
    the chains where some schedule is faster than the optimal policy's; "less possible" those where some schedule has a
    smaller peak than the policy's smallest.
    """
    for name, make in (("classical", simple_chain), ("uneven", random_chain)):
        bench.doing(name)
        instances = bench.size(INSTANCES, 5)
        found, lower = found_gaps(make, instances)
        slower = [gap for gap in found if gap > 1e-9]
        yield row(
            name,
            chains=instances,
            slower=len(slower),
            slower_by_mean_share=statistics.mean(slower) if slower else 0.0,
            slower_by_most_share=max(slower, default=0.0),
            less_possible=lower,
        )


def found_gaps(make: Callable[[int, int, int], ChainCosts], instances: int) -> tuple[list[float], int]:
    """How much slower than the fastest schedule of all; and how often a smaller peak exists than the policy reaches."""
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
    return found, lower
