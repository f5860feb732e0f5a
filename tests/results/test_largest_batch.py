"""Whether larger batches took more is read from those that were tried."""

from __future__ import annotations

import pytest

from ckptgrad.results.largest_batch import LargestBatch, TriedSize
from tests.results.test_step_certificate import certificate


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ([(1, True, 10, 1), (2, True, 9, 2), (3, False, 20, 3), (4, False, 21, 4)], True),
        ([(1, True, 10, 1), (3, False, 22, 3), (4, False, 21, 4)], False),
        ([(1, True, 10, 2), (2, True, 9, 1)], False),
        ([(1, True, 10, 1), (2, False, 20, 2), (3, True, 15, 3)], False),
    ],
)
def test_it_is_monotone_where_nothing_says_otherwise(tried, expected):
    found = LargestBatch(1, certificate(), tuple(TriedSize(*t) for t in tried))
    assert found.is_monotone is expected
    assert found.to_dict()["monotone"] is expected
    assert found.to_dict()["tried"][0] == {"size": 1, "fits": True, "bytes": 10}
