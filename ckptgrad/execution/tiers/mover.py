# pyright: reportUnknownMemberType=false
"""Moves values to tiers and back, beside computation: one thread sends, another fetches.

A third sees which programs run meanwhile, from which later plans learn (`seen`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from ckptgrad.execution.tiers.seen import Ran, Seen, Span, seen
from ckptgrad.execution.tiers.tier import Store, Tier


class Moving:
    """A transfer that is under way, with the methods of an array by which one waits for it."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def block_until_ready(self) -> Any:
        """What was fetched; None of what was sent.

        Raises:
            TierError: it failed.
        """
        return self._future.result()

    def is_ready(self) -> bool:
        """Whether it has ended."""
        return self._future.done()


class Mover:
    """The open tiers of one call. A context manager: when it is left, nothing is under way any more, and tiers are closed.

    Raises:
        TierError: a tier cannot be used.
    """

    def __init__(self, tiers: Sequence[Tier], device: Any) -> None:
        self._stores: list[Store] = []
        self._sent: dict[int, Future[Any]] = {}
        self._threads = {way: ThreadPoolExecutor(1, f"ckptgrad {way}") for way in ("put", "get", "see")}
        self._seen: list[Seen] = [seen(tier, device) for tier in tiers]
        self._sizes: dict[int, int] = {}
        self._ran: list[Ran] = []
        self._moved: list[dict[str, list[Span]]] = [{"put": [], "get": []} for _ in tiers]
        try:
            for tier in tiers:
                self._stores.append(tier.open(device))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Mover:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, tier: int, key: int, value: Any) -> Moving:
        """Send a value."""
        size = self._sizes[key] = value.nbytes

        def send() -> None:
            value.block_until_ready()
            self._timed("put", tier, size, lambda: self._stores[tier].put(key, value))

        self._sent[key] = self._threads["put"].submit(send)
        return Moving(self._sent[key])

    def get(self, tier: int, key: int, like: Any) -> Moving:
        """Fetch a value that was sent, once it has arrived."""
        sent, size = self._sent[key], self._sizes[key]

        def fetch() -> Any:
            sent.result()
            return self._timed("get", tier, size, lambda: self._stores[tier].get(key, like))

        return Moving(self._threads["get"].submit(fetch))

    def drop(self, tier: int, key: int) -> None:
        """Forget a value, once it has arrived, and what was fetched before is there."""
        sent, size = self._sent.pop(key), self._sizes.pop(key)

        def forget() -> None:
            sent.result()
            start = time.perf_counter()
            self._stores[tier].drop(key)
            self._seen[tier].drop.append((size, time.perf_counter() - start))

        self._threads["get"].submit(forget)

    def computes(self, program: Hashable, token: Any, issued: float) -> None:
        """Note that a program was issued, to run after those before, whose token is there when it has finished."""
        if self._stores:
            self._threads["see"].submit(self._watch, program, token, issued)

    def _watch(self, program: Hashable, token: Any, issued: float) -> None:
        token.block_until_ready()
        start = max(issued, self._ran[-1].span.finish) if self._ran else issued
        self._ran.append(Ran(program, Span(start, time.perf_counter())))

    def _timed(self, way: Literal["put", "get"], tier: int, size: int, move: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        moved = move()
        span = Span(start, time.perf_counter())
        self._moved[tier][way].append(span)
        getattr(self._seen[tier], way).append((size, span.finish - span.start))
        return moved

    def close(self) -> None:
        """Let what is under way end, what is not stay undone, and close the tiers."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
        used = [(found, moved) for found, moved in zip(self._seen, self._moved, strict=True) if any(moved.values())]
        # With two tiers it is not known which of them a program was slower for.
        if len(used) == 1:
            used[0][0].note_programs(self._ran, **used[0][1])
        self._sent.clear()
        self._sizes.clear()
        self._ran.clear()
        for store in self._stores:
            store.close()
        self._stores.clear()
