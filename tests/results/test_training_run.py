"""A training as plain data."""

from __future__ import annotations

from ckptgrad.results.training_run import TrainingRun


def test_as_plain_data():
    assert TrainingRun((3.0, 1.5), "The end").to_dict() == {"losses": [3.0, 1.5], "sample": "The end"}
