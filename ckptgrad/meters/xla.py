"""XLA's buffer assignment: what a compiled program will allocate, exactly and before it runs.

On the CPU, fusions that XLA hands to YNNPACK are calls into a library: a chain of products in one fusion keeps its
intermediates out of the assignment (the resident meter sees them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ckptgrad.errors import MissingExtraError
from ckptgrad.meters.assignment import Assignment, XlaBuffer, is_machinery, read_assignment
from ckptgrad.meters.buffers import Buffer
from ckptgrad.meters.meter import Reading, Subject, meter
from ckptgrad.target.allocated import compiled_memory

_SCOPE = re.compile(r"(?:^|/)((forward|backward)_(\d+))(?=/|$)")
# What a call is named.
_CALLED = re.compile(r"^p?jit\((.*)\)$")


@meter(
    "xla",
    label="XLA's buffer assignment",
    sees="every buffer of the compiled program, before it runs",
    cannot_see="the allocator's overhead, other programs, scratch inside library calls",
    runs=False,
)
def xla_meter(subject: Subject) -> Reading:
    """The certified peak; where the platform tells its buffers, the curve and what is alive at its worst moment too."""
    peak = compiled_memory(subject.executable).peak_bytes
    try:
        assignment = read_assignment(subject.executable)
    except ValueError:
        return Reading(peak)
    except MissingExtraError as error:
        return Reading(peak, str(error))
    where = _positions(assignment, subject.places)
    curve = tuple(zip(where, assignment.live, strict=True))
    alive = [_buffer(b, assignment) for b in assignment.at(assignment.peak_at)]
    return Reading(peak, None, curve, tuple(alive))


def _positions(assignment: Assignment, places: Sequence[tuple[str | None, float, float]]) -> list[float]:
    """Where each step stands as a share of the call's time: inside the action whose scope it has."""
    steps = len(assignment.scopes)
    if not places:
        return [(k + 0.5) / steps for k in range(steps)]
    waiting: dict[str | None, list[tuple[float, float]]] = {}
    for scope, start, end in reversed(places):
        waiting.setdefault(scope, []).append((start, end))
    positions: list[float] = []
    now, k = 0.0, 0
    while k < steps:
        scope = _scope(assignment.scopes[k])
        end = k
        while end < steps and _scope(assignment.scopes[end]) == scope:
            end += 1
        start, stop = waiting[scope].pop() if waiting.get(scope) else (now, now)
        # XLA may run what does not depend on each other in another order.
        start, stop = max(start, now), max(stop, now)
        positions += [start + (stop - start) * (i + 0.5) / (end - k) for i in range(end - k)]
        now, k = stop, end
    return positions


def _scope(name: str) -> str | None:
    match = _SCOPE.search(name)
    return match[1] if match else None


def _buffer(buffer: XlaBuffer, assignment: Assignment) -> Buffer:
    """A buffer of XLA's in the words of a plan: by who made it, whether it outlives that, and who reads it."""
    match = _SCOPE.search(buffer.name)
    stage = int(match[3]) if match else None
    kind = "transients"
    if buffer.is_output:
        kind = "results"
    elif match and assignment.scopes[buffer.last] != assignment.scopes[buffer.first]:
        kind = "gradients" if match[2] == "backward" else "residuals"
        others = {_scope(name) for name in buffer.readers} - {match[1], None}
        if kind == "residuals" and any(name.startswith("forward") for name in others if name):
            kind = "boundaries"
    # XLA numbers its own instructions, such as "wrapped_copy.11".
    what, source = re.sub(r"\.\d+$", "", buffer.name.rsplit("/", 1)[-1]).removeprefix("wrapped_"), buffer.source
    called = _CALLED.match(what)
    if match and (called or what == "body" or is_machinery(what)):
        # Made by all that a stage does, at the line of whoever compiled it.
        what, source = f"{match[2]} of stage {stage}", None
    elif called:
        what = called[1]
    return Buffer(kind, buffer.bytes, what, buffer.shape, buffer.dtype, stage, source)
