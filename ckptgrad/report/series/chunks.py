"""Stages over chunks in words."""

from __future__ import annotations

from collections.abc import Mapping

from ckptgrad.report.tables import ranges
from ckptgrad.results.over_chunks import Chunks


def chunk_words(chunks: Mapping[int, Chunks]) -> list[str]:
    """Which stages run over which chunks: "8 chunks of 128 along axis 1 of tokens in stages 2 .. 5"."""
    stages: dict[Chunks, list[int]] = {}
    for i, own in chunks.items():
        stages.setdefault(own, []).append(i)
    return [f"{own} in {'stage' if len(numbers) == 1 else 'stages'} {ranges(numbers)}" for own, numbers in stages.items()]
