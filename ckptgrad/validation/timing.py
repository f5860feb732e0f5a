"""Times as ratios: all programs by turns in one process, so that what else the machine does hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


def alternate(calls: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of each call in each of `repeats` rounds; a round starts one call later than the round before.

    Each call is first run once untimed.
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
    """The median over rounds of a time against the reference's in the same round."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))
