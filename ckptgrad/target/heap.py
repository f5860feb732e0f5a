"""What is free in the heap of this thread: whether it serves an array, and giving a part of it back to the system.

The C library gives everything back (`malloc_trim`) or nothing.  Here free pieces are taken from it, the smallest that are
large enough first, as it hands them out; their pages are given back; and they are freed again.  So little is touched anew
afterwards where little has to be given back, and the largest pieces stay, which serve the largest arrays.
Source: the manual pages malloc(3), mincore(2), madvise(2).  Does not: see heaps of other threads; do anything with other
libraries than glibc.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

# Bytes of the pieces that are taken one by one: what is smaller stays.
PIECE = 1 << 20
# So many of them are looked at, at most.
MOST_PIECES = 4096


class _Calls(NamedTuple):
    malloc: Any
    free: Any
    mincore: Any
    madvise: Any
    sbrk: Any


@contextmanager
def taken(size: int) -> Generator[int]:
    """Take an array of so many bytes for a while, without touching it: how many bytes of it are not resident."""
    calls = _calls()
    address = calls.malloc(size) if calls else None
    if not calls or not address:
        yield size
        return
    try:
        yield size - _resident(calls, *_pages(address, size))
    finally:
        calls.free(address)


def given_back(size: int) -> int:
    """Give back about so many bytes of what is free, or all that there is in pieces of `PIECE`; how many it were."""
    calls, found, pieces = _calls(), 0, list[int]()
    if not calls:
        return 0
    end = calls.sbrk(0)
    try:
        # Beyond the last free piece the heap grows.
        while found < size and len(pieces) < MOST_PIECES and calls.sbrk(0) == end:
            address = calls.malloc(PIECE)
            if not address:
                break
            pieces.append(address)
            start, length = _pages(address, PIECE)
            resident = _resident(calls, start, length)
            if not resident:
                # To take it wrote its header, on a page that was not resident.
                found -= mmap.PAGESIZE
            elif not calls.madvise(start, length, mmap.MADV_DONTNEED):
                found += resident
    finally:
        for address in pieces:
            calls.free(address)
    return found


def _pages(address: int, size: int) -> tuple[int, int]:
    """The whole pages in an array: where they start, and bytes."""
    page = mmap.PAGESIZE
    start = -(-address // page) * page
    return start, max(0, (address + size) // page * page - start)


def _resident(calls: _Calls, start: int, length: int) -> int:
    """How many bytes of these pages are resident."""
    told = np.zeros(length // mmap.PAGESIZE, np.uint8)
    if calls.mincore(start, length, told.ctypes.data):
        return 0
    # The lowest bit of a page's byte says so.
    return mmap.PAGESIZE * int(np.count_nonzero(told & 1))


@cache
def _calls() -> _Calls | None:
    # Windows has no library of the process itself, and other systems no such calls.
    try:
        library = ctypes.CDLL(None)
        calls = _Calls(library.malloc, library.free, library.mincore, library.madvise, library.sbrk)
    except (TypeError, AttributeError):
        return None
    if not hasattr(mmap, "MADV_DONTNEED") or not hasattr(library, "malloc_trim"):
        return None
    calls.malloc.restype, calls.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    calls.free.restype, calls.free.argtypes = None, [ctypes.c_void_p]
    calls.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    calls.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    calls.sbrk.restype, calls.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    return calls
