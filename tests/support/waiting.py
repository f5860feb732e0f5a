"""What waits at one boundary."""

from __future__ import annotations

from ckptgrad.chain.program import Program
from ckptgrad.chain.waiting import waits
from ckptgrad.graph.graph import Variable


def waiting(program: Program, boundary: int) -> list[tuple[Variable, str]]:
    """What is held beside a boundary during the backward, and as what it counts."""
    return [(v, kind) for v, kind, first, end in waits(program) if first <= boundary < end]
