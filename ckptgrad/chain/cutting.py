"""The ways in which a call may be cut into stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Cutting(Enum):
    """A way to cut a call into stages."""

    MAPS = "as finely as it can be with each shard_map whole"
    FINEST = "as finely as it can be"
    BLOCKS = "at the boundaries of blocks only, if there are any"
    CHUNKED = "at the boundaries of blocks, into stages that may run over chunks of an axis"
    RUNS = "the same, with runs of such stages as one where what crosses the cuts is more than a chunk of the run holds"


@dataclass(frozen=True)
class Ways(Generic[T]):
    """What becomes of a call in each of the ways to cut it.

    Attributes:
        whole: with stages that run whole, what is planned without a budget first: it is what shares of "store all" refer to.
        chunked: makes those with stages that may run over chunks, which are not asked for where another is good enough;
            None where there are none.
    """

    whole: Sequence[T]
    chunked: Callable[[], Sequence[T]] | None = None

    @property
    def finest(self) -> T:
        """With stages that run whole, as fine as they can be without a budget."""
        return self.whole[0]

    def map(self, function: Callable[[T], U]) -> Ways[U]:
        """The same of what a function makes of each, once."""
        chunked = self.chunked
        return Ways([*map(function, self.whole)], None if chunked is None else cache(lambda: [*map(function, chunked())]))
