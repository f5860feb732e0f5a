"""Which plans of a loop are offered, of many."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.loops.candidates import ALIKE, thinned
from ckptgrad.loops.reversals.reversal import Candidate, Offer

SLOWEST = Offer().slowest
NUMBERS = st.integers(1, 10_000)


def candidate(seconds, bytes, stored=0):
    return Candidate(
        None,
        lambda: pytest.fail("made before it was chosen"),
        (),
        stored=stored,
        forward_bytes=0,
        backward_bytes=bytes - stored,
        forward_seconds=0.0,
        backward_seconds=float(seconds),
    )


def offered(candidates, most=16):
    return [(c.seconds, c.bytes, c.stored) for c in thinned(candidates, most)]


def test_the_fastest_comes_first_and_the_smallest_is_there():
    plans = [candidate(3, 10), candidate(1, 1000), candidate(2, 100)]
    assert offered(plans) == [(1, 1000, 0), (2, 100, 0), (3, 10, 0)]


def test_what_is_beaten_is_not_offered():
    assert offered([candidate(1, 100), candidate(2, 100), candidate(2, 200)]) == [(1, 100, 0)]


@pytest.mark.parametrize("slower", [SLOWEST, SLOWEST + 0.01])
def test_what_is_too_slow_is_not_offered(slower):
    found = offered([candidate(10, 100), candidate(10 * slower, 1)])
    assert len(found) == 1 + (slower == SLOWEST)


def test_less_stored_between_the_passes_counts_too():
    """Though slower and larger in total, if what is stored is of another order."""
    large, larger = 2 << 20, 3 << 20
    few, much = candidate(2, larger, stored=1), candidate(1, large, stored=1 << 20)
    assert offered([few, much]) == [(1, large, 1 << 20), (2, larger, 1)]
    # Of the same order it does not.
    assert offered([candidate(2, larger, stored=1 << 20), candidate(1, large, stored=large)]) == [(1, large, large)]


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=60), st.sampled_from([4, 8, 16]))
def test_few_are_offered_and_none_is_missed_by_much(drawn, most):
    candidates = [candidate(seconds, held + stored, stored) for seconds, held, stored in drawn]
    fastest = min(c.seconds for c in candidates)
    possible = [c for c in candidates if c.seconds <= SLOWEST * fastest]
    found = thinned(candidates, most)
    assert set(found) <= set(possible)
    assert len(found) <= most + 1
    assert [c.seconds for c in found] == sorted(c.seconds for c in found)
    assert found[0].seconds == fastest
    assert min(c.bytes for c in found) == min(c.bytes for c in possible)
    # Where all fit nothing that is faster and smaller than others is left out.
    if len(possible) <= most - most // 4:
        best = {
            (c.seconds, c.bytes)
            for c in possible
            if not any(
                o.seconds <= c.seconds and o.bytes <= c.bytes and (o.seconds, o.bytes) != (c.seconds, c.bytes)
                for o in possible
            )
        }
        assert best <= {(c.seconds, c.bytes) for c in found}


def test_of_many_those_that_are_alike_are_one():
    """A hundred plans, each some per cent smaller than the one before: those that are left are not alike."""
    candidates = [candidate(100 + k, int(1e6 * 0.97**k)) for k in range(100)]
    found = [c for c in thinned(candidates, 16) if c.bytes != candidates[-1].bytes]
    assert 4 <= len(found) <= 16
    assert all(a.bytes > ALIKE * b.bytes for a, b in itertools.pairwise(found))
