"""The allocator keeps large arrays while it is asked to, and returns what is free where resident memory grows."""

import sys
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from ckptgrad.target import allocator
from ckptgrad.target.allocator import BESIDE, LARGEST_KEPT, LOOK, Resident, keeping, resident_bytes, return_freed

LARGE = 2 * LARGEST_KEPT
linux = pytest.mark.skipif(sys.platform != "linux", reason="what is resident, and an allocator to ask, are those of Linux")


@linux
def test_what_is_resident():
    assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, abs=2**22)


@linux
def test_what_was_freed_goes_back_to_the_system():
    """The C library keeps pieces below its threshold for mapping, 128 KiB or more, between others that are in use."""
    pieces = [bytearray(100_000) for _ in range(600)]
    held = resident_bytes()
    del pieces[::2]
    return_freed()
    assert resident_bytes() < held - 10_000_000


def kept_of_a_large_array():
    """Bytes that stay resident after an array was touched and freed."""
    return_freed()
    before = resident_bytes()
    array = np.ones(LARGE, np.uint8)
    assert resident_bytes() > before + 0.9 * LARGE
    del array
    return resident_bytes() - before


@linux
@pytest.mark.parametrize("largest", [LARGE, 2 * LARGE])
def test_large_arrays_are_kept_for_a_while_and_no_longer(largest):
    with keeping(largest):
        assert kept_of_a_large_array() > 0.9 * LARGE
    assert kept_of_a_large_array() < 0.1 * LARGE


@linux
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("MALLOC_TRIM_THRESHOLD_", "65536"),
        ("MALLOC_TOP_PAD_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536"),
    ],
)
def test_a_threshold_that_the_user_set_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with keeping(2 * LARGE):
        assert kept_of_a_large_array() < 0.1 * LARGE


@pytest.mark.parametrize("largest", [0, 2 * LARGE])
def test_an_allocator_without_such_calls_is_left_alone(monkeypatch, largest):
    monkeypatch.setattr(allocator, "_of_library", lambda name: None)
    with keeping(largest):
        return_freed()


@pytest.mark.parametrize("largest", [2 * LARGE, 2**31, 2**33 + 1])
def test_thresholds_are_never_more_than_the_allocator_can_be_told(monkeypatch, largest):
    told = []
    monkeypatch.setattr(allocator, "_of_library", lambda name: lambda which, bytes: told.append(bytes))
    monkeypatch.setattr(allocator, "_idle", allocator._Idle())
    with keeping(largest):
        assert min(largest + 1, 2**31 - 1) <= told[0] < 2**31
        assert max(told) < 2**31
        del told[:]
    monkeypatch.setattr(allocator, "_return_and_note", lambda: 0)
    for _ in range(2):
        allocator._idle._return()
    # What glibc has by itself, once.
    assert told == [LARGEST_KEPT, 128 << 10, 2 * LARGEST_KEPT]


class Process:
    """A process whose resident memory is set by hand: what the allocator handed out, what it did not, and what is free.

    Attributes:
        near: of what is free, the part that is in the heap of this thread.
        asked: bytes that were asked for of it, time by time.
        returned: how often all that is free was returned.
    """

    def __init__(self, monkeypatch, resident, used=0):
        self.resident, self.used, self.free, self.near, self.returned = resident, used, 0, 0, 0
        self.asked = []
        monkeypatch.setattr(allocator, "_beside", [])
        monkeypatch.setattr(allocator, "_idle", allocator._Idle())
        monkeypatch.setattr(allocator, "_used_bytes", lambda: self.used)
        monkeypatch.setattr(allocator, "resident_bytes", lambda: self.resident + self.free)
        monkeypatch.setattr(allocator, "return_freed", self._return)
        monkeypatch.setattr(allocator, "heap", self)

    def _return(self):
        self.returned, self.free, self.near = self.returned + 1, 0, 0

    @contextmanager
    def taken(self, size):
        yield max(0, size - self.near)

    def given_back(self, size):
        self.asked.append(size)
        given = min(size, self.near)
        self.free, self.near = self.free - given, self.near - given
        return given


def test_as_much_is_given_back_as_is_beyond_what_is_allowed(monkeypatch):
    process = Process(monkeypatch, 1000)
    resident = Resident(100 * LOOK)
    process.free = process.near = 109 * LOOK + BESIDE
    resident.make_room(LOOK, 0)
    assert process.asked == []
    process.free += 2 * LOOK
    resident.make_room(LOOK - 1, 0)
    assert process.asked == []
    # An array of what is free here takes no more.
    resident.make_room(LOOK, 0)
    assert (process.asked, process.returned) == ([LOOK], 0)
    process.near = 0
    resident.make_room(LOOK, 0)
    assert (process.asked, process.returned) == ([LOOK, LOOK], 1)


def test_what_serves_an_array_is_not_given_back_for_it(monkeypatch):
    process = Process(monkeypatch, 0)
    resident = Resident(100 * LOOK)
    process.free = process.near = 110 * LOOK + BESIDE
    resident.make_room(12 * LOOK, 0)
    assert (process.asked, process.returned) == ([], 0)


def test_what_serves_an_array_here_does_not_serve_one_of_another_thread(monkeypatch):
    process = Process(monkeypatch, 0)
    resident = Resident(100 * LOOK)
    process.free = process.near = 110 * LOOK + BESIDE
    resident.make_room(12 * LOOK, 0, elsewhere=True)
    assert (process.asked, process.returned) == ([12 * LOOK], 0)


def test_what_was_freed_since_the_last_call_does_not_count_as_held_by_others(monkeypatch):
    """Of the results of one call, once they are freed, the next one is made."""
    process = Process(monkeypatch, 1000, used=900)
    Resident(100 * LOOK).end()
    process.free = 50 * LOOK
    resident = Resident(100 * LOOK)
    process.free = 111 * LOOK + BESIDE
    before = process.returned
    resident.make_room(LOOK, 100 * LOOK)
    assert process.returned == before + 1


def test_what_others_took_since_the_last_call_counts_as_theirs(monkeypatch):
    process = Process(monkeypatch, 1000, used=900)
    Resident(100 * LOOK).end()
    process.resident, process.used = 1000 + 50 * LOOK, 900 + 50 * LOOK
    before = process.returned
    Resident(LOOK).make_room(LOOK, 0)
    assert process.returned == before


@pytest.mark.parametrize(("near", "asked", "returned"), [(200, 1, 0), (0, 1, 1)])
def test_what_an_earlier_call_left_is_returned_where_the_next_one_may_hold_less(monkeypatch, near, asked, returned):
    process = Process(monkeypatch, 1000, used=900)
    Resident(1000 * LOOK).end()
    before = process.returned
    process.free, process.near = 200 * LOOK + BESIDE, near * LOOK
    Resident(100 * LOOK).end()
    assert (len(process.asked), process.returned - before) == (asked, returned)
    assert process.free <= 111 * LOOK + BESIDE


def test_what_is_free_is_returned_once_no_call_was_made_for_a_while(monkeypatch):
    process = Process(monkeypatch, 1000)
    timers = []

    class Waiting:
        def __init__(self, seconds, call):
            self.seconds, self.call, self.cancelled = seconds, call, False

        def start(self):
            timers.append(self)

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(allocator, "Timer", Waiting)
    first, second = Resident(LOOK), Resident(LOOK)
    process.free = 5 * LOOK
    first.end()
    # One of them goes on.
    assert not timers
    second.end()
    (timer,) = timers
    assert (timer.seconds, timer.cancelled, process.free) == (allocator.IDLE, False, 5 * LOOK)
    third = Resident(100 * LOOK)
    assert timer.cancelled
    # It was about to run.
    timer.call()
    assert process.free == 5 * LOOK
    third.end()
    timers[-1].call()
    assert process.free == 0


def test_while_the_interpreter_ends_no_timer_starts(monkeypatch):
    Process(monkeypatch, 1000)

    class Refused:
        def __init__(self, *_):
            pass

        def start(self):
            raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(allocator, "Timer", Refused)
    Resident(LOOK).end()


@linux
def test_the_end_of_the_heap_is_kept_until_then(monkeypatch):
    monkeypatch.setattr(allocator, "_idle", allocator._Idle())
    pieces = [bytearray(LARGEST_KEPT - 10_000) for _ in range(2)]
    with keeping(2 * LARGE):
        pieces = [bytearray(LARGEST_KEPT - 10_000) for _ in range(8)]
    held = resident_bytes()
    del pieces
    assert resident_bytes() > held - LARGEST_KEPT
    allocator._idle._return()
    assert resident_bytes() < held - 7 * LARGEST_KEPT


@linux
def test_what_the_allocator_has_handed_out():
    before = allocator._used_bytes()
    array = np.ones(LARGE, np.uint8)
    assert allocator._used_bytes() - before == pytest.approx(LARGE, rel=0.1)
    del array
    assert allocator._used_bytes() - before < LARGE / 10


def test_what_others_hold_is_not_asked_for_twice(monkeypatch):
    process = Process(monkeypatch, 0)
    resident = Resident(LOOK)
    process.resident = 100 * LOOK
    for _ in range(5):
        resident.make_room(LOOK, 0)
    assert process.returned == 1
