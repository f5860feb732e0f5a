"""How high the axis of a timeline is."""

from __future__ import annotations

from typing import NamedTuple

from ckptgrad.bytes import format_bytes
from ckptgrad.results.timeline import Timeline

ABOVE = 1.5  # what is seen at first, where references are far above: this many times what is held or may be
FAR = 2.0  # times that: from there on references would press all else into the bottom


class Top(NamedTuple):
    """The highest bytes on the axis.

    Attributes:
        shown: of what is seen at first, at least one.
        all: of all that is drawn.
        beyond: what leaves the figure at the top, and how high it goes; "" if nothing does.
    """

    shown: int
    all: int
    beyond: str


def timeline_top(timeline: Timeline) -> Top:
    """How high a timeline is; a budget far above all else, and references far above all else, are not seen at first."""
    own = max([1, timeline.peak_bytes, *(reading.bytes or 0 for reading in timeline.readings.values())])
    heights = {name: reading.bytes or 0 for name, reading in timeline.references.items()}
    highest = max([own, *heights.values()])
    near = timeline.budget if timeline.budget is not None and own < timeline.budget <= 2 * highest else own
    shown = round(ABOVE * near)
    if highest <= FAR * shown:
        return Top(max(highest, near), max(highest, near), "")
    beyond = [f"{name} goes up to {format_bytes(height)}" for name, height in heights.items() if height > shown]
    return Top(shown, highest, ", ".join(beyond))
