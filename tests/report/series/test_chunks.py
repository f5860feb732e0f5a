"""Stages over chunks in words."""

from __future__ import annotations

from ckptgrad.report.series.chunks import chunk_words
from ckptgrad.results.over_chunks import Chunks


def test_stages_with_equal_chunks_share_a_sentence():
    tokens, none = Chunks(8, 128, "axis 1 of tokens"), Chunks(2, 4, "")
    assert chunk_words({2: tokens, 3: tokens, 4: tokens, 5: none, 7: tokens}) == [
        "8 chunks of 128 along axis 1 of tokens in stages 2 .. 4, 7",
        "2 chunks of 4 along an axis that no argument has in stage 5",
    ]


def test_what_runs_whole_has_no_words():
    assert chunk_words({}) == []
