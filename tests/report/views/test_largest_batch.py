"""The largest batch as a table."""

from __future__ import annotations

from ckptgrad.results.largest_batch import LargestBatch, TriedSize
from tests.results.test_step_certificate import certificate


def test_sizes_and_the_step_are_shown():
    text = str(LargestBatch(4, certificate(), (TriedSize(4, True, 1024, 1), TriedSize(8, False, 2048, 2))))
    assert text.startswith("largest batch that fits: 4\n")
    assert "1.0 KiB  fits" in text
    assert "2.0 KiB  at least: does not fit" in text
    assert "step: 860 B" in text


def test_what_was_not_monotone_is_said():
    text = str(LargestBatch(4, certificate(), (TriedSize(4, True, 1024, 2), TriedSize(8, False, 2048, 1))))
    assert "a larger batch did not always take more" in text
