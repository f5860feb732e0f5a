"""What a tier is: storage beside the device, to which values are sent and from which they are fetched.

To add a kind: a file here with a class that has the methods of `Store`, registered with `@kind("name")`, and an import of it
in this folder's `__init__`.  Laws: `get` returns what was `put` under the key, in all bits, or raises `TierError`; after
`drop` the key is free; after `close` nothing is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import gettempdir
from typing import Any, Protocol, TypeVar

from ckptgrad.bytes import resolve_budget
from ckptgrad.errors import BudgetFormatError, TierError


class Store(Protocol):
    """An open tier, used by one gradient at a time; `put` and `get` are called from one thread each."""

    def put(self, key: int, value: Any) -> None:
        """Keep a copy of an array. Returns when it is kept: the array may go.

        Raises:
            TierError: it cannot be kept.
        """
        ...

    def get(self, key: int, like: Any) -> Any:
        """A new array of what was kept; `like` is its type.

        Raises:
            TierError: it is not there any more, or not what was kept.
        """
        ...

    def drop(self, key: int) -> None:
        """Forget what was kept."""
        ...

    def close(self) -> None:
        """Forget all, and leave nothing behind."""
        ...


@dataclass(frozen=True)
class Tier:
    """A tier as it is asked for.

    Attributes:
        kind: the name of its kind.
        place: where it is, in the words of its kind; empty where there is only one.
        capacity: bytes that it may hold.
    """

    kind: str
    place: str
    capacity: int

    def open(self, device: Any) -> Store:
        """Open it for values of a device.

        Raises:
            TierError: it cannot be used.
        """
        return _KINDS[self.kind].open(self.place, self.capacity, device)

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" if self.place else self.kind


@dataclass(frozen=True)
class _Kind:
    open: Callable[[str, int, Any], Store]
    free_bytes: Callable[[str], int]
    asks_for_place: bool


_KINDS: dict[str, _Kind] = {}

T = TypeVar("T", bound=Callable[..., Any])


def kind(name: str, free_bytes: Callable[[str], int], asks_for_place: bool = False) -> Callable[[T], T]:
    """Register a kind of tier: a function of (place, capacity, device) to a Store.

    Args:
        name: by which users ask for it.
        free_bytes: the bytes that are free at a place.
        asks_for_place: whether users say where.
    """

    def register(opens: T) -> T:
        _KINDS[name] = _Kind(opens, free_bytes, asks_for_place)
        return opens

    return register


_WRITTEN = re.compile(r"(?P<kind>[a-z]+)(?P<rest>(:.*)?)", re.DOTALL)


def read_tier(text: str) -> Tier:
    """A tier as it is written: "host:64GiB", "disk:/scratch:500GiB"; without bytes, half of what is free.

    Raises:
        TierError: it is malformed, or no kind has this name.

    Example:
        >>> print(read_tier("host:1MiB"), read_tier("host:1MiB").capacity)
        host 1048576
    """
    match = _WRITTEN.fullmatch(str(text))
    found = _KINDS.get(match["kind"]) if match else None
    if match is None or found is None:
        raise TierError(f"{text!r} is not a tier; write host:64GiB or disk:/scratch:500GiB (there are {', '.join(_KINDS)})")
    place, size = _parts(text, match["rest"][1:], found.asks_for_place)
    if found.asks_for_place != bool(place):
        raise TierError(
            f"{text!r} {'says' if place else 'does not say'} where it is; write host:64GiB or disk:/scratch:500GiB"
        )
    return Tier(match["kind"], place, size or found.free_bytes(place) // 2)


def read_tiers(written: Sequence[str | Tier] | str) -> tuple[Tier, ...]:
    """Tiers as they are written, the first to be filled first; "auto" is a folder for temporary files.

    Raises:
        TierError: as from `read_tier`.
    """
    if written == "auto":
        return (read_tier(f"disk:{gettempdir()}"),)
    texts = [written] if isinstance(written, str) else written
    return tuple(text if isinstance(text, Tier) else read_tier(text) for text in texts)


def _parts(text: str, rest: str, asks_for_place: bool) -> tuple[str, int]:
    """The place and the bytes, 0 where none are written; a place may have a colon itself.

    Raises:
        TierError: the bytes are no number of bytes.
    """

    def refuse() -> int:
        raise TierError(
            f"the bytes of the tier {text!r} are not a number with a unit; write host:64GiB or disk:/scratch:500GiB"
        )

    head, colon, tail = rest.rpartition(":") if asks_for_place else ("", "", rest)
    if not tail:
        return head, 0
    try:
        size = resolve_budget(tail, refuse, refuse, refuse)
    except BudgetFormatError:
        return (rest, 0) if asks_for_place else ("", refuse())
    # A number alone is a folder's name.
    return (head, size or 0) if colon or not asks_for_place else (rest, 0)
