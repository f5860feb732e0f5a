"""What is free in the heap: whether it serves an array, and giving back a part of it."""

import json
import subprocess
import sys

import pytest

from ckptgrad.target import heap

MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="the calls are Linux's")

# In a process of its own, whose heap has no other holes: free pieces of 20 MiB between others that are in use.
SCRIPT = """
import json, sys
from ckptgrad.target import heap
from ckptgrad.target.allocator import LARGEST_KEPT, keeping, resident_bytes, return_freed
MIB = 1 << 20
heap.given_back(MIB)
return_freed()
found = {"missing": [], "given": []}
with keeping(2 * LARGEST_KEPT):
    pieces = [bytearray(b"1") * (20 * MIB) for _ in range(8)]
    del pieces[::2]
    for size in (19, 31, 19):
        with heap.taken(size * MIB) as missing:
            found["missing"].append(missing)
    for asked in (1, 5, 30, 1000, 1000):
        before = resident_bytes()
        given = heap.given_back(asked * MIB)
        found["given"].append((asked * MIB, given, before - resident_bytes()))
    found["whole"] = all(piece == b"1" * (20 * MIB) for piece in pieces)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@linux
def test_an_array_is_taken_of_what_is_free(found):
    small, large, again = found["missing"]
    assert small < MIB
    assert large > 10 * MIB
    # Nothing of the first was touched, and it is free again.
    assert again < MIB


@linux
def test_about_as_much_is_given_back_as_is_asked_for(found):
    for asked, given, fewer in found["given"][:3]:
        assert asked <= given <= asked + heap.PIECE
        assert fewer == pytest.approx(given, abs=MIB)


@linux
def test_there_may_be_less(found):
    (_, given, fewer), (_, nothing, _) = found["given"][3:]
    assert 35 * MIB < given < 50 * MIB
    assert fewer == pytest.approx(given, abs=MIB)
    assert nothing < 5 * MIB


@linux
def test_what_is_in_use_stays_as_it_is(found):
    assert found["whole"]


def test_where_the_library_has_no_such_calls_nothing_is_known(monkeypatch):
    monkeypatch.setattr(heap, "_calls", lambda: None)
    with heap.taken(MIB) as missing:
        assert missing == MIB
    assert heap.given_back(MIB) == 0
