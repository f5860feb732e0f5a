"""Times of programs that take turns."""

from __future__ import annotations

import pytest

from ckptgrad.validation import timing


def test_calls_take_turns_and_each_round_starts_with_the_next(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds

        return run

    found = timing.alternate([call("a", 1.0), call("b", 2.0), call("c", 4.0)], 3)
    assert found == [[1.0] * 3, [2.0] * 3, [4.0] * 3]
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_ratios_are_those_of_the_same_round():
    """Another load on the machine slows both."""
    assert timing.median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == pytest.approx(2.0)
