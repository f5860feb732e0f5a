"""A timeline for other programs: trace events, which Perfetto and Chrome's tracing page open, and rows of CSV.

Format: "Trace Event Format" (Chromium project): complete events (`X`), counters (`C`) and nestable asynchronous events (`b`,
`e`), with times in microseconds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ckptgrad.meters.buffers import KINDS, Buffer

if TYPE_CHECKING:
    from ckptgrad.results.timeline import Timeline

MOST_BUFFERS = 20_000
_PROCESS, _STAGES = 1, 1


def trace_events(timeline: Timeline) -> dict[str, Any]:
    """Slices by stage, one counter for each kind of buffer and for what was observed, and a slice for each buffer.

    Where the estimated times are all zero, the whole lasts a second.
    """
    scale = 1e6 * (timeline.moments[-1].end or 1.0)
    events = [*_names(timeline), *_slices(timeline, scale), *_counters(timeline, scale), *_buffers(timeline, scale)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"function": timeline.name, "bytes": "estimated"}}


def _event(phase: str, name: str, time: float, **more: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "ts": _nanoseconds(time) / 1000, "pid": _PROCESS, **more}


def _nanoseconds(time: float) -> int:
    """Whole ones, of microseconds: readers count in these, and drop a slice that begins before the one ahead of it ends."""
    return round(1000 * time)


def _names(timeline: Timeline) -> Iterator[dict[str, Any]]:
    yield _event("M", "process_name", 0, args={"name": f"gradient of {timeline.name}"})
    yield _event("M", "thread_name", 0, tid=_STAGES, args={"name": "stages"})


def _slices(timeline: Timeline, scale: float) -> Iterator[dict[str, Any]]:
    for moment, (start, end) in zip(timeline.moments, timeline.progress, strict=True):
        if end > start:
            words = {"F": "forward", "B": "backward"}.get(moment.action[0], moment.action[0])
            told = {name: str(own) for name in ("place", "chunks") if (own := getattr(moment, name)) is not None}
            lasts = (_nanoseconds(end * scale) - _nanoseconds(start * scale)) / 1000
            yield _event(
                "X", f"{words} {moment.stage}", start * scale, dur=lasts, tid=_STAGES, cat=words,
                args={"action": moment.action, "bytes": moment.total, **told},
            )  # fmt: skip


def _counters(timeline: Timeline, scale: float) -> Iterator[dict[str, Any]]:
    for start, _, held in timeline.course:
        yield _event("C", "live bytes", start * scale, args={"bytes": sum(held.values())})
        for kind in KINDS:
            yield _event("C", f"live bytes: {kind}", start * scale, args={"bytes": held.get(kind, 0)})
    yield _event("C", "live bytes", scale, args={"bytes": 0})
    observed = {**timeline.readings, **timeline.references}
    for name, reading in observed.items():
        for share, held in dict(reading.curve).items():
            yield _event("C", f"observed: {name}", share * scale, args={"bytes": held})


def _buffers(timeline: Timeline, scale: float) -> Iterator[dict[str, Any]]:
    progress = timeline.progress
    largest = sorted(timeline.lives, key=lambda life: -life.buffer.bytes)[:MOST_BUFFERS]
    for k, life in enumerate(largest):
        b, start, end = life.buffer, progress[life.first][0], progress[life.last][1]
        if end > start:
            name = f"{b.name or b.what} {b.type}".strip()
            yield _event("b", name, start * scale, cat=b.kind, id2={"local": k}, args=b.to_dict())
            yield _event("e", name, end * scale, cat=b.kind, id2={"local": k})


def moments_csv(timeline: Timeline) -> str:
    """A row for each part of the course that takes time: times as shares of the whole, bytes by kind and in total."""
    rows: list[list[Any]] = []
    for part in timeline.parts:
        if part.end <= part.start:
            continue
        moment, kinds = timeline.moments[part.moment], [part.bytes.get(kind, 0) for kind in KINDS]
        told = [str(own) if own else "" for own in (moment.place, moment.chunks)]
        rows.append([part.start, part.end, moment.action, moment.stage, told[0], *kinds, sum(kinds), told[1]])
    return _csv(
        [
            "start_share_of_time",
            "end_share_of_time",
            "action",
            "stage",
            "place",
            *(f"{kind}_bytes" for kind in KINDS),
            "total_bytes",
            "chunks",
        ],
        rows,
    )


def buffers_csv(timeline: Timeline) -> str:
    """A row for each buffer that is held for any time: from which to which action, and when, as shares of the whole."""
    moments, progress = timeline.moments, timeline.progress
    rows = [
        [*_buffer_row(life.buffer, moments[life.first].action, moments[life.last].action), start, end]
        for life in timeline.lives
        if (end := progress[life.last][1]) > (start := progress[life.first][0])
    ]
    head = ["bytes", "kind", "type", "made_by", "stage", "layer", "file", "line", "from_action", "until_action"]
    return _csv([*head, "start_share_of_time", "end_share_of_time"], rows)


def _buffer_row(b: Buffer, start: str, end: str) -> list[Any]:
    place = (b.source.scope, b.source.file, b.source.line) if b.source else ("", "", "")
    return [b.bytes, b.kind, b.type, f"{b.what} {b.name}".strip(), "" if b.stage is None else b.stage, *place, start, end]


def _csv(head: list[str], rows: Iterable[list[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return stream.getvalue()
