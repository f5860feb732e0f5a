# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How fast tiers are, measured once in a process: values are sent and fetched while the device computes, as in a gradient.

On a CPU transfers and computation share the cores, so that a tier is several times slower then than when nothing else runs.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from statistics import mean
from threading import Event, Thread
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.execution.tiers.tier import Store, Tier
from ckptgrad.planning.makespan import Rates

# Bytes of a value that is sent, and how many are; fewer where the tier is small.
SIZE, COUNT, SMALL = 1 << 23, 8, 1 << 12
# The width of the matrices that are multiplied meanwhile.
WIDTH = 512


@cache
def measured_rates(tier: Tier, device: Any) -> Rates:
    """The rates of a tier for values of a device.

    Raises:
        TierError: it cannot be used.
    """
    store = tier.open(device)
    size = min(SIZE, tier.capacity // (2 * COUNT))
    try:
        with _computing(device):
            latency = min(_seconds(store, jax.device_put(jnp.zeros(min(SMALL, size), jnp.uint8), device)))
            put, get = _seconds(store, jax.device_put(jnp.zeros(size, jnp.uint8), device))
    finally:
        store.close()
    return Rates(size / max(put - latency, 1e-9), size / max(get - latency, 1e-9), latency)


def _seconds(store: Store, value: Any) -> tuple[float, float]:
    """The mean seconds of sending and of fetching a value, where all are sent first."""
    value.block_until_ready()
    sent = mean(_timed(lambda k=key: store.put(k, value)) for key in range(COUNT))
    fetched = mean(_timed(lambda k=key: store.get(k, value)) for key in range(COUNT))
    for key in range(COUNT):
        store.drop(key)
    return sent, fetched


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _computing(device: Any) -> Generator[None]:
    """Keep a device busy."""
    matrix, done = jax.device_put(jnp.ones((WIDTH, WIDTH)), device), Event()
    multiply = jax.jit(jnp.matmul)

    def compute() -> None:
        while not done.is_set():
            multiply(matrix, matrix).block_until_ready()

    thread = Thread(target=compute, name="ckptgrad computing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
