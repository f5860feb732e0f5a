"""What the backward holds at each boundary besides it: values that live longer, and sums of gradients in progress."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ckptgrad.chain.program import Program
from ckptgrad.graph.graph import Variable


def waiting_bytes(program: Program) -> list[int]:
    """For each boundary, 0 to n, bytes of what is held besides while the backward is there: see `waiting`."""
    steps = [0] * (len(program.stages) + 2)
    for v, _, first, end in _waits(program):
        size = program.target.bytes_of(v.aval)
        steps[first] += size
        steps[end] -= size
    return list(itertools.accumulate(steps))[: len(program.stages) + 1]


def waiting(program: Program, boundary: int) -> list[tuple[Variable, str]]:
    """What is held besides while the backward is at a boundary, and whether that is "boundaries" or "gradients".

    A value that crosses several boundaries until the backward of the first stage that reads it; a sum of gradients from
    that of the last one to that of the stage that made the value; sums for arguments until they are complete, and results
    of the program.
    """
    return [(v, kind) for v, kind, first, end in _waits(program) if first <= boundary < end]


def _waits(program: Program) -> Iterator[tuple[Variable, str, int, int]]:
    """What waits, its kind, and from which boundary to before which."""
    n = len(program.stages)
    for v in program.held:
        yield v, "boundaries", min(i for i, stage in enumerate(program.stages) if v in stage.inputs) + 1, n + 1
    maker = {v: i for i, stage in enumerate(program.stages) for v in stage.outputs}
    readers: dict[Variable, list[int]] = {}
    for i, (stage, summed, starting) in enumerate(zip(program.stages, program.summed, program.starting, strict=True)):
        for k in (*summed, *starting):
            readers.setdefault(stage.differentiated[k], []).append(i)
    for v, stages in readers.items():
        yield v, "gradients", maker.get(v, min(stages)) + 1, max(stages) + 1
