"""How processes agree: here threads, which meet at a barrier; in `end_to_end/test_processes.py` processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ckptgrad.errors import ProcessesError
from ckptgrad.target.processes import ALONE, Processes, processes_of, several_processes


def together(count, act):
    """What `act` returns or raises in each of some processes."""
    rows, meet = [None] * count, threading.Barrier(count, timeout=10)

    def outcome(place):
        def gather(row):
            rows[place] = row
            meet.wait()
            gathered = np.stack(rows)
            meet.wait()
            return gathered

        try:
            return act(Processes(tuple(range(count)), place, gather), place)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(outcome, range(count)))


def fail(error):
    raise error


@pytest.mark.parametrize("count", [2, 3])
def test_each_finds_what_all_find_and_the_first_tells(count):
    long = "x" * 5000
    assert together(count, lambda p, k: p.each("count", lambda: (k, long))) == [[(k, long) for k in range(count)]] * count
    assert together(count, lambda p, k: p.first("tell", lambda: f"{k}")) == ["0"] * count


def test_processes_that_go_different_ways_say_where():
    found = together(2, lambda p, k: p.each(f"budget {k}", lambda: k))
    assert len({*found}) == 1
    assert "process 0 at budget 0; process 1 at budget 1" in found[0]
    assert found[0].startswith("ProcessesError")


def test_an_error_of_all_is_their_own():
    assert together(2, lambda p, k: p.each("a", lambda: fail(KeyError("lost")))) == ["KeyError: 'lost'"] * 2


@pytest.mark.parametrize("failing", [{0}, {1}, {0, 1}])
def test_an_error_of_some_reaches_all(failing):
    found = together(2, lambda p, k: p.each("a", lambda: fail(KeyError(k)) if k in failing else k))
    assert len({*found}) == 1
    for k in failing:
        assert f"process {k} at a: KeyError: {k}" in found[0]


def test_an_error_inside_is_told_once():
    """Where it was told; those that it did not reach are told on the way out."""

    def act(processes, k):
        def find():
            processes.each("inner", lambda: fail(KeyError(k)) if k == 1 else k)

        return processes.each("outer", find)

    assert {found.partition(":")[0] for found in together(2, act)} == {"ProcessesError"}


def test_one_that_leaves_early_is_not_waited_for():
    def act(processes, k):
        def find():
            if k == 1:
                raise KeyError("lost")
            processes.each("inner", lambda: k)

        return processes.each("outer", find)

    found = together(2, act)
    assert len({*found}) == 1
    assert "process 1 at outer: KeyError: 'lost'" in found[0]


def test_one_that_is_gone_is_not_asked_again():
    asked = []

    def broken(row):
        asked.append(row)
        raise ValueError("Connection closed by peer")

    processes = Processes((0, 1), 0, broken)
    with pytest.raises(ProcessesError, match=r"at inner: another process .* does not answer: Connection closed"):
        processes.each("outer", lambda: processes.each("inner", lambda: 0))
    assert len(asked) == 1


def test_an_error_that_all_caught_is_over():
    def act(processes, k):
        with pytest.raises((KeyError, ProcessesError)):
            processes.each("first", lambda: fail(KeyError(k)))
        return processes.each("second", lambda: k)

    assert together(2, act) == [[0, 1]] * 2


def test_alone_nothing_is_told():
    assert not ALONE.several
    assert ALONE.each("a", lambda: 3) == [3]
    assert ALONE.first("a", lambda: 3) == 3
    with pytest.raises(KeyError):
        ALONE.each("a", lambda: fail(KeyError("lost")))
    assert not several_processes()
    assert processes_of(()) is ALONE
