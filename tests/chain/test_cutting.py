"""The ways to cut a call are made when they are asked for."""

from ckptgrad.chain.cutting import Ways


def test_ways_over_chunks_are_made_once_and_only_if_asked_for():
    made = []
    ways = Ways([3, 2], lambda: made.append(1) or [1]).map(lambda n: 10 * n)
    assert ways.finest == 30
    assert list(ways.whole) == [30, 20]
    assert made == []
    assert ways.chunked is not None
    assert (ways.chunked(), ways.chunked(), made) == ([10], [10], [1])


def test_there_may_be_none():
    assert Ways([1]).map(str).chunked is None
