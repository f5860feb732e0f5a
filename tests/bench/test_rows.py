"""Rows of results."""

from __future__ import annotations

from ckptgrad.bench.rows import Row, row


def test_a_row_leaves_out_unknown_values():
    measured = row("ours", "tanh", certified_bytes=1, resident_bytes=None, note="a word")
    assert measured == Row("ours", "tanh", {"certified_bytes": 1}, "a word")
    assert Row.from_dict(measured.to_dict()) == measured
