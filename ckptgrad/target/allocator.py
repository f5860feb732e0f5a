"""What the allocator of the C library keeps of arrays that are freed, on CPU, where arrays are memory of the process.

glibc maps what is larger than a threshold when it is allocated, and unmaps it when it is freed; of what is smaller it
returns the end of a heap once that is free, and whole heaps of threads: programs with large temporaries touch new pages at
every call, which takes a fourth of the time of a transformer's gradient that runs stage by stage.  What it keeps is in
pieces that may not fit the next, so that a process may hold twice what is in use.  The thresholds follow what is freed, up
to `LARGEST_KEPT`.
So while such a gradient runs arrays as large as its temporaries are kept (`keeping`), and what is free is returned where
resident memory would go beyond what was certified (`Resident`).  What it leaves free the next call is made of: touching it
anew takes up to a sixth of the time.  So that is returned once no call was made for a while.
Source: the GNU C Library Reference Manual, 3.2.3.9, Malloc Tunable Parameters.  Does not: do anything with other allocators.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from ckptgrad.target import heap

# The largest arrays that glibc keeps unless it is told otherwise; larger ones are mapped, and unmapped, one by one.
LARGEST_KEPT = 1 << 25
# What a process may have resident beyond what is held: a share of that, and bytes.
SHARE, BESIDE = 0.1, 32 << 20
# Seconds after the last call until what it left free is returned.
IDLE = 5.0
# Resident memory is looked at once so many bytes were allocated.
LOOK = 1 << 23
# glibc's numbers of what is set: bytes free at a heap's end when that is returned, those left there then, and those of an
# array that is mapped.
_TRIM, _PAD, _MAP = -1, -2, -3
# It takes them as C's int.
_MOST = 2**31 - 1
# What is left at the end of a heap unless it is told otherwise, and the size of a heap of a thread: none is unmapped where
# as much is left.
_LEFT, _HEAP = 1 << 17, 1 << 26
# An array has a header and is aligned: so much more than its bytes is asked for, at most.
_AROUND = 1 << 12
# The variables and tunables by which users set them.
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
_TUNABLES = ("mmap_threshold", "trim_threshold", "top_pad")


@contextmanager
def keeping(largest: int) -> Generator[None]:
    """Have arrays of up to so many bytes kept when they are freed, for a while; a threshold that the user set stays.

    The end of the heap is kept beyond that, until what is free is returned.
    """
    set_option = None if largest <= LARGEST_KEPT else _settable()
    if set_option is None:
        yield
        return
    try:
        _idle.keeps_end = True
        set_option(_MAP, min(largest + _AROUND, _MOST))
        set_option(_TRIM, _MOST)
        set_option(_PAD, _HEAP)
        yield
    finally:
        # What glibc itself goes up to.
        set_option(_MAP, LARGEST_KEPT)
        set_option(_PAD, _LEFT)


def _settable() -> Callable[..., Any] | None:
    return None if _is_given() else _of_library("mallopt")


class Resident:
    """Keeps the resident memory of this process near what a call may hold, beyond what was there before it.

    Args:
        limit: bytes that the call may hold.
    """

    def __init__(self, limit: int) -> None:
        self._before, self._unseen = _without_free(), 0
        self._beside = next(iter(_beside), 0)
        self._most = self._before + int((1 + SHARE) * limit) + BESIDE
        # An earlier call may have left more than this one may hold.
        excess = resident_bytes() - self._most
        if excess > LOOK and heap.given_back(excess) < excess:
            _return_and_note()
        _idle.call_begins()

    def make_room(self, taken: int, held: int, elsewhere: bool = False) -> None:
        """Return what is free where so many bytes more than are held might be too many.

        Args:
            taken: bytes that are about to be allocated.
            held: those that the call holds.
            elsewhere: whether they are by another thread, to which what is free in the heap of this one is of no use.
        """
        self._unseen += taken
        if self._unseen < LOOK:
            return
        self._unseen, now = 0, resident_bytes()
        if now + taken <= self._most:
            return
        # What is free is in pieces, some of which do not fit.
        with heap.taken(0 if elsewhere else taken) as missing:
            grown = taken if elsewhere else missing
            excess = now + grown - self._most
            if excess <= 0 or heap.given_back(excess) >= excess:
                return
        beside = _return_and_note()
        # What others in this process hold, and what threads of theirs left free, cannot be returned.
        self._most = max(self._most + max(0, beside - self._beside), resident_bytes() + taken)
        self._beside = beside

    def end(self) -> None:
        """The call has ended: if it was the last one for a while, what is free is returned then."""
        _idle.call_ends()


class _Idle:
    """Returns what is free once no call has been made for a while.

    Attributes:
        keeps_end: whether the end of the heap is kept until then, whatever is free there.
    """

    def __init__(self) -> None:
        self.keeps_end = False
        self._lock, self._calls = Lock(), 0
        self._timer: Timer | None = None

    def call_begins(self) -> None:
        with self._lock:
            self._calls += 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def call_ends(self) -> None:
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self._timer = Timer(IDLE, self._return)
                self._timer.daemon = True
                # None starts any more while the interpreter ends.
                with suppress(RuntimeError):
                    self._timer.start()

    def _return(self) -> None:
        with self._lock:
            if self._calls:
                return
            set_option = _settable() if self.keeps_end else None
            if set_option is not None:
                # As glibc itself has it follow the other threshold.
                set_option(_TRIM, 2 * LARGEST_KEPT)
                self.keeps_end = False
            _return_and_note()


_idle = _Idle()

# What was resident beside what was in use when all that was free had been returned for the last time.
_beside: list[int] = []


def _without_free() -> int:
    """Resident bytes without what was freed since, such as the results of the last call: that serves the next one."""
    used = _used_bytes()
    if used and not _beside:
        _return_and_note()
    return min([resident_bytes(), *(used + beside for beside in _beside if used)])


def _return_and_note() -> int:
    """Return all that is free; what is resident beside what is in use then."""
    return_freed()
    _beside[:] = [resident_bytes() - _used_bytes()]
    return _beside[0]


def resident_bytes() -> int:
    """Bytes of physical memory that this process holds; 0 where that is not told."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def return_freed() -> None:
    """Return to the system what this process freed and its allocator keeps, where that can be asked for."""
    trim = _of_library("malloc_trim")
    if trim is not None:
        trim(0)


def _used_bytes() -> int:
    """Bytes that the allocator has handed out and not got back; 0 where it does not tell."""
    info: Any = _of_library("mallinfo2")
    if info is None:
        return 0
    info.restype = _Info
    found = info()
    return found.hblkhd + found.uordblks


# Those of glibc's `struct mallinfo2`.
_FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _Info(ctypes.Structure):
    """What glibc says of its heaps."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def _is_given() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in _VARIABLES) or any(name in tunables for name in _TUNABLES)


@cache
def _of_library(name: str) -> Callable[..., Any] | None:
    # Windows has no library of the process itself.
    with suppress(TypeError):
        return getattr(ctypes.CDLL(None), name, None)
    return None
