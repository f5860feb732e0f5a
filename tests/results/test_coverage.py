"""Which primitives are differentiated, as data."""

from __future__ import annotations

from tests.cases.results import COVERAGE


def test_statuses_are_counted_the_most_frequent_first():
    assert COVERAGE.statuses == [("differentiated", 2), ("zero", 1), ("missing", 1)]


def test_plain_data():
    assert COVERAGE.to_dict()[2] == {
        "primitive": "floor", "status": "zero", "how": "no derivative flows", "public": True,
    }  # fmt: skip
