"""A property that is computed once, without a lock."""

from __future__ import annotations

import threading

from ckptgrad.once import once


class Slow:
    def __init__(self):
        self.computed = []
        self.both = threading.Barrier(2, timeout=10)

    @once
    def value(self):
        """What is computed."""
        self.computed.append(object())
        return self.computed[-1]

    @once
    def together(self):
        self.both.wait()
        return object()


def test_it_is_computed_when_it_is_asked_for_and_kept():
    thing, other = Slow(), Slow()
    assert thing.computed == []
    assert thing.value is thing.value
    assert len(thing.computed) == 1
    assert other.value is not thing.value
    assert Slow.value.__doc__ == "What is computed."


def test_threads_that_compute_it_at_once_get_the_same_value():
    """Neither waits for the other to end, or the barrier would break."""
    thing, values = Slow(), []
    threads = [threading.Thread(target=lambda: values.append(thing.together)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(values) == 2
    assert values[0] is values[1]
