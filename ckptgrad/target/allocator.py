"""What the allocator of the C library keeps of arrays that are freed, on CPU, where arrays are memory of the process.

glibc maps what is larger than a threshold when it is allocated, and unmaps it when it is freed; of what is smaller it
returns the end of a heap once that is free, and whole heaps of threads: programs with large temporaries touch new pages at
every call, which takes a fourth of the time of a transformer's gradient that runs stage by stage.  What it keeps is in
pieces that may not fit the next, so that a process may hold twice what is in use.  The thresholds follow what is freed, up
to `LARGEST_KEPT`.
So while such a gradient runs arrays as large as its temporaries are kept (`keeping`), and what is free is returned where
resident memory would go beyond what was certified (`Resident`).
Source: the GNU C Library Reference Manual, 3.2.3.9, Malloc Tunable Parameters.  Does not: do anything with other allocators.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

# The largest arrays that glibc keeps unless it is told otherwise; larger ones are mapped, and unmapped, one by one.
LARGEST_KEPT = 1 << 25
# What a process may have resident beyond what is held: a share of that, and bytes.
SHARE, BESIDE = 0.1, 32 << 20
# What may be free and resident once it has ended: as much stays at every call, so that it is little.
AFTER = 1 << 24
# The share of what is free that is taken to serve what is allocated next.
FITTING = 0.5
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
    """Have arrays of up to so many bytes kept when they are freed, for a while; a threshold that the user set stays."""
    set_option = None if largest <= LARGEST_KEPT or _is_given() else _of_library("mallopt")
    if set_option is None:
        yield
        return
    try:
        set_option(_MAP, min(largest + _AROUND, _MOST))
        set_option(_TRIM, _MOST)
        set_option(_PAD, _HEAP)
        yield
    finally:
        # What glibc itself goes up to; that of the heap's end follows at twice as much.
        set_option(_MAP, LARGEST_KEPT)
        set_option(_TRIM, 2 * LARGEST_KEPT)
        set_option(_PAD, _LEFT)


class Resident:
    """Keeps the resident memory of this process near what a call may hold, beyond what was there before it.

    Args:
        limit: bytes that the call may hold.
    """

    def __init__(self, limit: int) -> None:
        self._before, self._unseen = _without_free(), 0
        self._most = self._before + int((1 + SHARE) * limit) + BESIDE

    def make_room(self, taken: int, held: int) -> None:
        """Return what is free where so many bytes more than are held might be too many."""
        self._unseen += taken
        if self._unseen < LOOK:
            return
        self._unseen, now = 0, resident_bytes()
        # What is free is in pieces, some of which do not fit.
        free = max(0, now - self._before - held)
        if now + max(0, taken - int(FITTING * free)) > self._most:
            return_freed()
            # What others in this process hold cannot be returned.
            self._most = max(self._most, resident_bytes() + taken)

    def end(self, held: int) -> None:
        """Return what is free beside the bytes that are still held."""
        # A program that has finished may let go of its operands a moment later.
        for moment in (0.0, 0.002):
            if resident_bytes() <= self._before + held + AFTER:
                return
            time.sleep(moment)
            return_freed()
        _note_beside()


# What was resident beside what was in use when all that was free had been returned for the last time.
_beside: list[int] = []


def _without_free() -> int:
    """Resident bytes without what was freed since, such as the results of the last call: that serves the next one."""
    used = _used_bytes()
    if used and not _beside:
        return_freed()
        _note_beside()
    return min([resident_bytes(), *(used + beside for beside in _beside if used)])


def _note_beside() -> None:
    _beside[:] = [resident_bytes() - _used_bytes()]


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
