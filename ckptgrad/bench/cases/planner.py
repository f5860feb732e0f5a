"""How long planning takes, and how far the optimal policy is from the fastest possible schedule."""

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
    """n stages, all equal except the first and the last."""
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


@case("planner-times", "How long planning takes, chain by chain")
def plan_times(bench: Bench) -> Iterator[Row]:
    """The time of one complete plan in a warm process, the best of three. The budget lies a third of the way from the
    smallest peak to that of storing everything; "estimated time" is a gradient's, relative to storing everything."""
    for name, make, n in bench.size(CHAINS, CHAINS[:1]):
        for options in (1, 4):
            bench.announce(f"{n} {name}, {options} options")
            costs = make(n, options)
            smallest, store_all = minimum_peak(costs)[0], simulate(get_policy("store_all")(costs, None), costs)
            budget = smallest + (store_all.peak - smallest) // 3
            schedule, seconds = get_policy("optimal")(costs, budget), []
            for _ in range(bench.size(REPEATS, 1)):
                start = time.perf_counter()
                schedule = get_policy("optimal")(costs, budget)
                seconds.append(time.perf_counter() - start)
            ratio = simulate(schedule, costs).time / store_all.time
            run = f"{options} option{'s' * (options > 1)}"
            share = budget / store_all.peak
            yield row(run, f"{n:,} {name}", budget_share=share, plan_seconds=min(seconds), estimated_time_ratio=ratio)


@case("planner-gaps", "The optimal policy against an exhaustive search over all schedules")
def planner_gaps(bench: Bench) -> Iterator[Row]:
    """Random chains of 3 to 5 stages with one or two save options, at budgets drawn between the smallest and largest peak.

    In the classical model a backward reads residuals only; in uneven chains it may also read its input and output. "Slower"
    counts the chains for which some schedule is faster than the optimal policy's; "less possible" counts those for which
    some schedule has a smaller peak than the smallest that the policy reaches.
    """
    for name, make in (("classical", simple_chain), ("uneven", random_chain)):
        bench.announce(name)
        instances = bench.size(INSTANCES, 5)
        gaps, lower = measure_gaps(make, instances)
        slower = [gap for gap in gaps if gap > 1e-9]
        yield row(
            name,
            chains=instances,
            slower=len(slower),
            slower_by_mean_share=statistics.mean(slower) if slower else 0.0,
            slower_by_most_share=max(slower, default=0.0),
            less_possible=lower,
        )


def measure_gaps(make: Callable[[int, int, int], ChainCosts], instances: int) -> tuple[list[float], int]:
    """How much slower the policy is than the fastest schedule, per chain; for how many chains a smaller peak exists."""
    draw = random.Random(0)
    gaps: list[float] = []
    lower = 0
    for seed in range(instances):
        costs = make(draw.choice((3, 4, 5)), draw.choice((1, 2)), seed)
        smallest = minimum_peak(costs)[0]
        largest = simulate(get_policy("store_all")(costs, None), costs).peak
        budget = draw.randint(smallest, max(smallest, largest - 1))
        bound = least_time(costs, budget)
        assert bound is not None
        gaps.append(simulate(get_policy("optimal")(costs, budget), costs).time / bound - 1)
        lower += least_time(costs, smallest - 1) is not None
    return gaps, lower
