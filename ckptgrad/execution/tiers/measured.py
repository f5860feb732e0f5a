# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How fast tiers are: as gradients saw it, and until they did as measured once in a process.

To measure it, values are sent and fetched while the device computes, as in a gradient.
On a CPU transfers and computation share the cores, so that a tier is several times slower then than when nothing else runs,
and the device computes more slowly, too: how much is measured with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from threading import Event, Thread
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ckptgrad.execution.tiers.seen import seen
from ckptgrad.execution.tiers.tier import Store, Tier
from ckptgrad.planning.makespan import Rates

# Bytes of a value that is sent, and how many are; fewer where the tier is small.
SIZE, COUNT, SMALL = 1 << 23, 8, 1 << 12
# Seconds for which it is watched how fast the device computes alone.
ALONE = 0.05
MEASURED = "measured at opening"
# The width of the matrices that are multiplied meanwhile.
WIDTH = 512


def known_rates(tier: Tier, device: Any) -> Rates:
    """The rates of a tier for values of a device.

    Raises:
        TierError: it cannot be used.
    """
    return seen(tier, device).rates(measured_rates(tier, device))


@cache
def measured_rates(tier: Tier, device: Any) -> Rates:
    """The rates of a tier as they are measured when it is opened for the first time.

    Raises:
        TierError: it cannot be used.
    """
    store = tier.open(device)
    size = min(SIZE, tier.capacity // (2 * COUNT))
    try:
        with _computing(device) as computed:
            latency = min(_seconds(store, jax.device_put(jnp.zeros(min(SMALL, size), jnp.uint8), device), computed).moved)
            alone = _products_a_second(computed, lambda: time.sleep(ALONE))
            found = _seconds(store, jax.device_put(jnp.zeros(size, jnp.uint8), device), computed)
            alone = max(alone, _products_a_second(computed, lambda: time.sleep(ALONE)))
    finally:
        store.close()
    put, get = found.moved
    beside = [max(1.0, alone / max(products, 1e-9)) if products else 1.0 for products in found.products]
    return Rates(size / max(put - latency, 1e-9), size / max(get - latency, 1e-9), latency, *beside, source=MEASURED)


class _Found(NamedTuple):
    """Seconds of sending and of fetching a value, and how many products a second were computed meanwhile."""

    moved: tuple[float, float]
    products: tuple[float, float]


def _products_a_second(computed: list[int], work: Callable[[], object]) -> float:
    """How many products a second are computed while something is done."""
    start, before = time.perf_counter(), computed[0]
    work()
    return (computed[0] - before) / (time.perf_counter() - start)


def _seconds(store: Store, value: Any, computed: list[int]) -> _Found:
    """The mean seconds of sending and of fetching a value, where all are sent first."""
    value.block_until_ready()
    moved: list[float] = []
    products: list[float] = []
    for move in (store.put, store.get):
        start = time.perf_counter()
        products.append(_products_a_second(computed, lambda move=move: [move(key, value) for key in range(COUNT)]))
        moved.append((time.perf_counter() - start) / COUNT)
    for key in range(COUNT):
        store.drop(key)
    return _Found((moved[0], moved[1]), (products[0], products[1]))


@contextmanager
def _computing(device: Any) -> Generator[list[int]]:
    """Keep a device busy; yields the number of products that were computed so far."""
    matrix, done = jax.device_put(jnp.ones((WIDTH, WIDTH)), device), Event()
    multiply, computed = jax.jit(jnp.matmul), [0]
    multiply(matrix, matrix).block_until_ready()

    def compute() -> None:
        while not done.is_set():
            multiply(matrix, matrix).block_until_ready()
            computed[0] += 1

    thread = Thread(target=compute, name="ckptgrad computing", daemon=True)
    thread.start()
    try:
        yield computed
    finally:
        done.set()
        thread.join()
