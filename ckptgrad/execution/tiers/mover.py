# pyright: reportUnknownMemberType=false
"""Moves values to tiers and back, beside computation: one thread sends, another fetches."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

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
        self._threads = {way: ThreadPoolExecutor(1, f"ckptgrad {way}") for way in ("put", "get")}
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
        self._sent[key] = self._threads["put"].submit(self._stores[tier].put, key, value)
        return Moving(self._sent[key])

    def get(self, tier: int, key: int, like: Any) -> Moving:
        """Fetch a value that was sent, once it has arrived."""
        sent = self._sent[key]

        def fetch() -> Any:
            sent.result()
            return self._stores[tier].get(key, like)

        return Moving(self._threads["get"].submit(fetch))

    def drop(self, tier: int, key: int) -> None:
        """Forget a value, once it has arrived, and what was fetched before is there."""
        sent = self._sent.pop(key)

        def forget() -> None:
            sent.result()
            self._stores[tier].drop(key)

        self._threads["get"].submit(forget)

    def close(self) -> None:
        """Let what is under way end, what is not stay undone, and close the tiers."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
        self._sent.clear()
        for store in self._stores:
            store.close()
        self._stores.clear()
