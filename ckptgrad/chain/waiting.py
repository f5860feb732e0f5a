"""What is held beside each boundary during the backward: values that live longer, and unfinished sums of gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ckptgrad.chain.program import Program
from ckptgrad.graph.graph import Variable


def waiting_bytes(program: Program) -> list[int]:
    """For each boundary, 0 to n, bytes of what is held beside it while the backward is there (`waits`)."""
    steps = [0] * (len(program.stages) + 2)
    for v, kind, first, end in waits(program):
        size = program.target.bytes_of(program.gradient_of(v) if kind == "gradients" else v)
        steps[first] += size
        steps[end] -= size
    return list(itertools.accumulate(steps))[: len(program.stages) + 1]


def waits(program: Program) -> Iterator[tuple[Variable, str, int, int]]:
    """What waits, whether it counts as "boundaries" or "gradients", and from which boundary to before which.

    A value that crosses several boundaries is held until the backward of the first stage that reads it.  The sum of its
    gradients is held from the backward of the last stage that reads it to that of the stage that made it; the sum for an
    argument until it is complete, which makes it a result of the program; none where it is summed in that result's memory.
    """
    n = len(program.stages)
    for v in program.held:
        yield v, "boundaries", min(i for i, stage in enumerate(program.stages) if v in stage.inputs) + 1, n + 1
    readers: dict[Variable, list[int]] = {}
    for i, (stage, summed, starting) in enumerate(zip(program.stages, program.summed, program.starting, strict=True)):
        for k in (*summed, *starting):
            readers.setdefault(stage.differentiated[k], []).append(i)
    for v, stages in readers.items():
        if v in program.in_results:
            continue
        yield v, "gradients", program.makers.get(v, min(stages)) + 1, max(stages) + 1
