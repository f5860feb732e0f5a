# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The processes that run one program together, and how they come to the same plan.

What one process sees alone decides nothing: a clock, a file on its host, the memory that is free there, the bytes that its
compiler allocates. Of what is measured the first process tells the others, of bytes the fullest process counts, and
whatever follows from such numbers is computed by each and checked to be equal: processes that go different ways
raise an error instead of waiting for each other.

Processes talk through a program of their own, which gathers one row from a device of each of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from ckptgrad.errors import ProcessesError

T = TypeVar("T")

Row: TypeAlias = NDArray[Any]


class Member(Protocol):
    """What is asked of a device of a process."""

    @property
    def id(self) -> int: ...

    @property
    def process_index(self) -> int: ...


# The fewest bytes of a message: shorter ones are filled up, so that few programs are compiled.
_FEWEST = 1024


@dataclass(frozen=True)
class _Report:
    """What a process tells the others.

    Attributes:
        doing: what it does, which must be the same for all.
        value: what it found.
        error: what went wrong instead; empty if nothing did.
    """

    doing: str
    value: Any
    error: str


@dataclass
class Processes:
    """Processes that take the same steps with the same program.

    Attributes:
        numbers: JAX's numbers of them, in order; none for a process alone.
        place: that of this process among them.
        rows: from an array of one axis, the same shape in each process, to those of all, by their place.
    """

    numbers: tuple[int, ...] = ()
    place: int = 0
    rows: Callable[[Row], Row] = lambda row: row[None]
    _told: BaseException | None = field(default=None, repr=False)

    @property
    def several(self) -> bool:
        """Whether there are others than this one."""
        return len(self.numbers) > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks for all."""
        return self.place == 0

    def each(self, doing: str, find: Callable[[], T]) -> list[T]:
        """What each process finds; all must call this, and do the same.

        Args:
            doing: what is done, which must be the same for all: it stands in the error where it is not.
            find: gives what can be pickled; it may call `each` itself.

        Raises:
            ProcessesError: processes do different things, or it went wrong for some; each raises this then. Or one is gone.
            Exception: what `find` raises, where it is the same for all.
        """
        if not self.several:
            return [find()]
        value, error = None, None
        try:
            value = find()
        except Exception as raised:
            if raised is self._told:  # by a call of this inside: the others know
                raise
            error = raised
        reports = self._told_by_all(_Report(doing, value, f"{type(error).__name__}: {error}" if error else ""))
        self._check(reports, error)
        return [report.value for report in reports]

    def first(self, doing: str, find: Callable[[], T]) -> T:
        """What the first process finds; as `each`, and all find it, but what the others find counts for nothing."""
        return self.each(doing, lambda: self._kept(find()))[0]

    def _kept(self, found: T) -> T:
        # What the others found is not sent.
        return found if self.is_first else cast(T, None)

    def _check(self, reports: Sequence[_Report], own: Exception | None) -> None:
        try:
            if own is not None and all(r == reports[0] for r in reports):
                raise own
            if any(r.error for r in reports):
                failed = [f"process {self.numbers[k]} at {r.doing}: {r.error}" for k, r in enumerate(reports) if r.error]
                raise ProcessesError(f"not all processes of this program went on; {'; '.join(failed)}") from own
            if len({r.doing for r in reports}) > 1:
                ways = "; ".join(f"process {self.numbers[k]} at {r.doing}" for k, r in enumerate(reports))
                raise ProcessesError(
                    f"the processes of this program go different ways: {ways}; run the same code on each, with the same "
                    f"budget, options and versions"
                ) from own
        except Exception as raised:
            self._told = raised
            raise

    def _told_by_all(self, report: _Report) -> list[_Report]:
        try:
            return self._gathered(report)
        except (RuntimeError, ValueError) as error:  # what JAX raises where a process has gone
            self._told = ProcessesError(f"at {report.doing}: another process of this program does not answer: {error}")
            raise self._told from error

    def _gathered(self, report: _Report) -> list[_Report]:
        message = pickle.dumps(report)
        lengths = self.rows(np.array([len(message)], np.int32))[:, 0]
        # A power of two, so that few programs are compiled.
        room = 1 << (max(_FEWEST, int(lengths.max())) - 1).bit_length()
        row = np.zeros(room, np.uint8)
        row[: len(message)] = np.frombuffer(message, np.uint8)
        rows = self.rows(row)
        return [pickle.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


# A process on its own.
ALONE = Processes()


def _rows_of_all(devices: tuple[Member, ...], place: int, row: Row) -> Row:
    """The row of each process, in a thread of its own: no mesh, default device or trace of the caller is at work there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_gather, devices, place, row).result()


def _gather(devices: tuple[Member, ...], place: int, row: Row) -> Row:
    over = NamedSharding(_mesh(devices), PartitionSpec("process"))
    own = jax.device_put(row[None], cast(Any, devices[place]))
    rows = jax.make_array_from_single_device_arrays((len(devices), len(row)), over, [own])
    return np.asarray(_replicated(devices)(rows).addressable_data(0))


@cache
def _mesh(devices: tuple[Member, ...]) -> Mesh:
    return Mesh(np.array(devices, dtype=object), ("process",))


@cache
def _replicated(devices: tuple[Member, ...]) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(_identity, out_shardings=NamedSharding(_mesh(devices), PartitionSpec()))


def _identity(rows: jax.Array) -> jax.Array:
    return rows


def processes_of(devices: Iterable[Member]) -> Processes:
    """The processes that attached devices belong to, if this is one of several of them; else this one alone.

    Args:
        devices: those that a program runs on.
    """
    if not several_processes():
        return ALONE
    firsts: dict[int, Member] = {}
    for device in sorted(devices, key=lambda device: device.id):
        firsts.setdefault(device.process_index, device)
    numbers = sorted(firsts)
    if len(numbers) < 2 or jax.process_index() not in numbers:
        return ALONE
    place = numbers.index(jax.process_index())
    return Processes(tuple(numbers), place, partial(_rows_of_all, tuple(firsts[k] for k in numbers), place))


def several_processes() -> bool:
    """Whether this process is one of several that `jax.distributed` has joined."""
    return jax.process_count() > 1
