"""Where the names of points stand in a figure, so that none hides another name or a point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

# In pixels: a letter of the small type that names are written in, half a marker, and from a point to its name.
LETTER, LINE, MARKER, GAP = 6.0, 13.0, 6.0, 8.0
# Sides of a point that are tried: to the right or left of it, and how many lines above it.
_SIDES = ((True, 0.5), (True, -0.5), (False, 0.5), (False, -0.5), (True, 1.4), (True, -1.4), (False, 1.4), (False, -1.4))


class Spot(NamedTuple):
    """Where the name of a point stands: to its right or left, and how many pixels higher the middle of its line."""

    right: bool
    higher: float


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top


def spots(
    names: Sequence[tuple[str, float, float]], points: Iterable[tuple[float, float]], width: float, height: float
) -> Iterator[Spot | None]:
    """For each name where it stands, or None if there is no room; the first ones get theirs first.

    Args:
        names: what is written beside which point: its text, and the point in pixels from the left and from below.
        points: all points that names must not hide, in pixels.
        width, height: of the figure in pixels; names end within it.
    """
    taken = [_Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    frame = _Box(0, 0, width, height)
    for text, x, y in names:
        spot = None
        for right, lines in _SIDES:
            box = _box(text, x, y, right, lines)
            inside = box.left >= frame.left and box.right <= frame.right and box.bottom >= 0 and box.top <= frame.top
            if inside and not any(box.meets(other) for other in taken):
                taken.append(box)
                spot = Spot(right, lines * LINE)
                break
        yield spot


def _box(text: str, x: float, y: float, right: bool, lines: float) -> _Box:
    wide, middle = LETTER * len(text), y + lines * LINE
    left = x + GAP if right else x - GAP - wide
    return _Box(left, middle - LINE / 2, left + wide, middle + LINE / 2)
