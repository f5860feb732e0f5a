"""Times as ratios: all programs interleaved in one process, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


def alternate(calls: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of each call in each of `repeats` rounds; each round starts with the next call.

    Each call runs once untimed first.
    """
    for call in calls:
        jax.block_until_ready(call())
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats):
        for k in range(len(calls)):
            i = (turn + k) % len(calls)
            start = time.perf_counter()
            jax.block_until_ready(calls[i]())
            seconds[i].append(time.perf_counter() - start)
    return seconds


def median_ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """The median over rounds of the ratio of a time to the reference's time in the same round."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))
