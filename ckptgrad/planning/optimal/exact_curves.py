"""The recurrences over exact bytes: for each segment the whole curve of least seconds against bytes.

Algorithm: bottom-up over classes of segments; each row is the list of (bytes, seconds) that no other schedule of the
segment beats in both.  Keeping an option shifts a list; a split adds two, as functions of the bytes there are.
Regime: up to about a hundred different stages; one solve gives the whole frontier of the chain, with every budget at
which its best nested schedule changes.
Does not: round anything, or look at schedules that are not nested.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ckptgrad.planning.optimal.recurrences import option_needs, walk_heads
from ckptgrad.planning.optimal.segments import Classes, Kinds

# Entries of one curve at most; only hundreds of stages of random sizes have more.
MOST_POINTS = 20_000


class Curve(NamedTuple):
    """Bytes, ascending, and the least seconds within them, descending."""

    bytes: NDArray[np.number[Any]]
    seconds: NDArray[np.float64]

    def within(self, room: int) -> float:
        """Seconds within `room` bytes; infinity if these are too few."""
        at = int(np.searchsorted(self.bytes, room, side="right")) - 1
        return float(self.seconds[at]) if at >= 0 else float("inf")


def fill_curves(kinds: Kinds, classes: Classes[list[int]], most: int) -> list[Curve] | None:
    """The curve of every row, up to `most` bytes; None if one has more than `MOST_POINTS` entries.

    Args:
        kinds, classes: of the chain's segments.
        most: bytes beyond which no budget goes.
    """
    count = len(classes.first)
    curves = [Curve(np.array([]), np.array([]))] * (2 * count)
    heads = [0] * (max(classes.length) + 1)
    for s in range(count):
        walk_heads(classes, s, heads)
        for owned in range(2):
            curve = _row(kinds, classes, heads, curves, s, owned, most)
            if len(curve.bytes) > MOST_POINTS:
                return None
            curves[owned * count + s] = curve
    return curves


def _row(
    kinds: Kinds, classes: Classes[list[int]], heads: list[int], curves: list[Curve], s: int, owned: int, most: int
) -> Curve:
    count, a, length, last = len(classes.first), classes.first[s], classes.length[s], classes.last[s]
    cotangent, result, held = kinds.output_cotangent[last], kinds.result[last], kinds.input[a] * owned
    ways: list[Curve] = []
    for k in range(kinds.option_start[a], kinds.option_start[a + 1]):
        forward, between, backward = option_needs(kinds, k, a, cotangent, result, owned, length == 1)
        need = max(forward, backward)
        if length == 1:
            ways.append(Curve(np.array([need]), np.array([kinds.option_alone_time[k]])))
        else:
            rest = curves[(1 - kinds.option_reads_output[k]) * count + classes.tail[s]]
            ways.append(Curve(np.maximum(rest.bytes + between, need), rest.seconds + kinds.option_time[k]))
    sweep, swept, right, kind = 0, 0.0, s, a
    for x in range(1, length):
        before = kinds.input[kind] if x > 1 else 0
        sweep = max(sweep, cotangent + held + before + kinds.sweep[kind])
        if sweep > most:
            break
        swept += kinds.forward_time[kind]
        right = classes.tail[right]
        kind = classes.first[right]
        left = curves[owned * count + heads[x]]
        ways.append(_both(curves[count + right], sweep, held, left, result, swept))
    return _lowest(ways, most)


def _both(right: Curve, sweep: int, held: int, left: Curve, kept: int, swept: float) -> Curve:
    """Seconds of `right` within what is left beside `held`, and of `left` beside `kept`, one after the other."""
    ours, theirs = right.bytes + held, left.bytes + kept
    least = max(sweep, ours[0], theirs[0])
    bytes_ = np.concatenate([[least], ours[ours > least], theirs[theirs > least]])
    bytes_.sort()
    seconds = right.seconds[np.searchsorted(ours, bytes_, side="right") - 1]
    return Curve(bytes_, seconds + left.seconds[np.searchsorted(theirs, bytes_, side="right") - 1] + swept)


def _lowest(curves: list[Curve], most: int) -> Curve:
    """The points of several curves that no other one beats."""
    bytes_ = np.concatenate([c.bytes for c in curves])
    seconds = np.concatenate([c.seconds for c in curves])
    order = np.lexsort((seconds, bytes_))
    bytes_, seconds = bytes_[order], seconds[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(seconds)[:-1]])
    better = (seconds < before * (1 - 1e-12)) | np.isinf(before)
    better[1:] &= bytes_[1:] <= most
    return Curve(bytes_[better], seconds[better])
