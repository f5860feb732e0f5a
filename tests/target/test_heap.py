"""What is free in the heap: whether it serves an array, and giving back a part of it."""

import sys

import pytest

from ckptgrad.target import heap
from ckptgrad.target.allocator import LARGEST_KEPT, keeping, resident_bytes, return_freed

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are Linux's")


@pytest.fixture
def holes():
    """Free pieces of 20 MiB between others that are in use."""
    return_freed()
    with keeping(2 * LARGEST_KEPT):
        pieces = [bytearray(b"1") * (20 * MIB) for _ in range(8)]
        del pieces[::2]
        yield pieces
        del pieces[:]
    return_freed()


def test_an_array_is_taken_of_what_is_free(holes):
    with heap.taken(19 * MIB) as missing:
        assert missing < MIB
    with heap.taken(31 * MIB) as missing:
        assert missing > 10 * MIB
    # Nothing of it was touched, and it is free again.
    with heap.taken(19 * MIB) as missing:
        assert missing < MIB


@pytest.mark.parametrize("asked", [10 * MIB, 30 * MIB])
def test_about_as_much_is_given_back_as_is_asked_for(holes, asked):
    before = resident_bytes()
    given = heap.given_back(asked)
    assert asked <= given <= asked + heap.PIECE
    # Other threads of this process may take and free a little meanwhile.
    assert before - resident_bytes() == pytest.approx(given, abs=2 * MIB)


def test_there_may_be_less(holes):
    before = resident_bytes()
    given = heap.given_back(1000 * MIB)
    assert 70 * MIB < given < 200 * MIB
    assert before - resident_bytes() == pytest.approx(given, abs=2 * MIB)
    assert heap.given_back(1000 * MIB) < 10 * MIB


def test_what_is_in_use_stays_as_it_is(holes):
    heap.given_back(1000 * MIB)
    assert all(piece == b"1" * (20 * MIB) for piece in holes)


def test_where_the_library_has_no_such_calls_nothing_is_known(monkeypatch):
    monkeypatch.setattr(heap, "_calls", lambda: None)
    with heap.taken(MIB) as missing:
        assert missing == MIB
    assert heap.given_back(MIB) == 0
