"""What becomes of a value where an axis is cut into chunks, and how large its parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ckptgrad.graph.atoms import Atom, Aval, parts_of
from ckptgrad.graph.value_types import explicit_sharding, is_manual


@dataclass(frozen=True)
class Split:
    """A chunk has its own part along an axis: of n entries on an axis of n * k places, k neighbouring places each."""

    axis: int


@dataclass(frozen=True)
class Partial:
    """A chunk has a summand; the value is the sum over all chunks."""


State: TypeAlias = Split | Partial | None  # None: all of it, the same for every chunk


@dataclass(frozen=True)
class Chunk:
    """Some of the entries along an axis.

    Attributes:
        size: all entries.
        entries: those of the chunk.
    """

    size: int
    entries: int

    def places(self, whole: int) -> int:
        """How many places the chunk has on an axis with so many places for all entries."""
        return whole // self.size * self.entries

    def shape(self, shape: tuple[int, ...], state: State) -> tuple[int, ...]:
        """The shape of the chunk's part of a value."""
        if not isinstance(state, Split):
            return tuple(shape)
        return tuple(self.places(n) if d == state.axis else n for d, n in enumerate(shape))


def may_be_cut(atom: Atom, axis: int, size: int) -> bool:
    """Whether so many entries may lie along an axis of a value: its places divide, and it is whole on every device."""
    aval: Aval = atom.aval
    shape = getattr(aval, "shape", ())
    if axis >= len(shape) or not shape[axis] or shape[axis] % size:
        return False
    if explicit_sharding(aval) is not None or is_manual(aval):
        return False
    return atom.sharding is None or parts_of(atom.sharding, len(shape))[axis] == 1
