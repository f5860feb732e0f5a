"""The knee of a frontier: the point after which fewer bytes cost disproportionately more time.

Definition: both axes scaled so that the ends of the curve are (0, 1) and (1, 0), the knee is the point farthest below the
straight line between them; of equals, the one with the fewest bytes.
Aliases: the knee or elbow of Kneedle (Satopaa, Albrecht, Irwin and Raghavan 2011, "Finding a 'Kneedle' in a haystack"),
without its smoothing and its threshold: a frontier falls everywhere, and its points are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.planning.frontier import Point


def knee_of(points: Sequence[Point]) -> Point | None:
    """The knee of a curve; None where no point lies below the line between its ends.

    Args:
        points: by ascending bytes and descending seconds.
    """
    least, fastest = points[0], points[-1]
    bytes_, seconds = fastest.peak_bytes - least.peak_bytes, least.seconds - fastest.seconds
    if not bytes_ or not seconds:
        return None

    def depth(point: Point) -> float:
        return 1 - (point.peak_bytes - least.peak_bytes) / bytes_ - (point.seconds - fastest.seconds) / seconds

    knee = max(points, key=depth)
    return knee if depth(knee) > 0 else None
