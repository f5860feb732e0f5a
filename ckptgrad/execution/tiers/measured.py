# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How fast tiers are, measured once in a process: a few values are sent and fetched."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.execution.tiers.tier import Tier
from ckptgrad.planning.makespan import Rates

# Bytes of a value that is sent, how many are, and of how many the fastest counts.
SIZE, SMALL, REPEATS = 1 << 24, 1 << 12, 3


@cache
def measured_rates(tier: Tier, device: Any) -> Rates:
    """The rates of a tier for values of a device.

    Raises:
        TierError: it cannot be used.
    """
    store = tier.open(device)
    try:
        small, large = (_fastest(store, jax.device_put(jnp.zeros(n, jnp.uint8), device)) for n in (SMALL, SIZE))
    finally:
        store.close()
    latency = min(*small, *large)
    put, get = (max(seconds - latency, 1e-9) for seconds in large)
    return Rates(SIZE / put, SIZE / get, latency)


def _fastest(store: Any, value: Any) -> tuple[float, float]:
    """The fewest seconds of sending and of fetching a value."""
    value.block_until_ready()
    times: list[tuple[float, float]] = []
    for key in range(REPEATS):
        start = time.perf_counter()
        store.put(key, value)
        sent = time.perf_counter()
        store.get(key, value)
        times.append((sent - start, time.perf_counter() - sent))
        store.drop(key)
    return min(t for t, _ in times), min(t for _, t in times)
