"""How high the axis of a timeline is."""

from __future__ import annotations

from ckptgrad.results.timeline import Timeline


def timeline_top(timeline: Timeline) -> int:
    """Bytes of the highest thing that is seen at first, at least one; a budget far above all else is not seen."""
    curves = (*timeline.readings.values(), *timeline.references.values())
    highest = max([1, timeline.peak_bytes, *(reading.bytes or 0 for reading in curves)])
    return timeline.budget if timeline.budget is not None and highest < timeline.budget <= 2 * highest else highest
