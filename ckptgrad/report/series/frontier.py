"""A frontier as curves and labelled points: peaks in bytes, times relative to the fastest plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ckptgrad.bytes import format_bytes
from ckptgrad.planning.frontier import Point
from ckptgrad.planning.knee import knee_of
from ckptgrad.report.series.labels import Spot, spots

# Marker and colour by the beginning of a policy's name.
_MARKERS = (
    ("jax.grad", "*", "#000000"),
    ("jax.checkpoint", "D", "#D55E00"),
    ("store_all", "s", "#009E73"),
    ("sqrt", "^", "#CC79A7"),
    ("revolve", "o", "#56B4E9"),
    ("every", "v", "#E69F00"),
    ("recompute_all", "X", "#999999"),
)
# Of every other policy, a user's own among them.
_OTHER = ("P", "#0072B2")
# A point is far off if it is this many times as far as all others of its axis that are not.
FAR = 1.6


class Placed(NamedTuple):
    """A point: what is written beside it, its policy, its peak in bytes, its time relative to the fastest plan."""

    label: str
    policy: str
    bytes: int
    ratio: float


class Group(NamedTuple):
    """Points that share a marker."""

    name: str
    marker: str
    colour: str
    filled: bool
    size: int
    points: list[Placed]


@dataclass(frozen=True)
class FrontierSeries:
    """What is drawn of a frontier.

    Attributes:
        curve: the optimal plans, by ascending peak.
        knee: where fewer bytes begin to cost disproportionately more time, if anywhere.
        chosen: a plan that was chosen, if one was.
        groups: where other policies stand.
        most_bytes, most_ratio: up to where the axes go; what lies beyond is far off.
    """

    curve: tuple[Placed, ...]
    knee: Placed | None
    chosen: Placed | None
    groups: tuple[Group, ...]
    most_bytes: int
    most_ratio: float

    @property
    def rivals(self) -> list[Placed]:
        """The points of all groups."""
        return [p for group in self.groups for p in group.points]

    @property
    def least_bytes(self) -> float:
        """From where the axis of bytes goes: a little below the smallest plan, so that the curve has the room."""
        smallest = min(p.bytes for p in (*self.curve, *self.rivals))
        return max(0.0, smallest - 0.15 * (self.most_bytes - smallest)) if smallest < self.most_bytes else 0.0

    @property
    def far(self) -> list[Placed]:
        """The points that are so far from all others that these would be pressed against each other beside them."""
        return [p for p in self.rivals if p.bytes > self.most_bytes or p.ratio > self.most_ratio]

    @property
    def marked(self) -> dict[str, Placed]:
        """The knee and the chosen plan, where there are such, with what is written beside them."""
        found = {"knee": self.knee, "chosen": self.chosen}
        return {
            name: p._replace(label=f"{name}: {format_bytes(p.bytes)}, {p.ratio:.2f}")
            for name, p in found.items()
            if p is not None
        }

    @property
    def worth_naming(self) -> list[Placed]:
        """The points to be named if there is room: marked ones first, then rivals that are one of their kind."""
        groups = sorted(self.groups, key=lambda group: len(group.points))
        return [*self.marked.values(), *(p for group in groups for p in group.points if p not in self.far)]

    def named(
        self, wanted: Sequence[Placed], at: Callable[[Placed], tuple[float, float]], width: float, height: float
    ) -> list[tuple[Placed, Spot]]:
        """The points whose names have room beside them, and where.

        Args:
            wanted: the points to be named, those before others first.
            at: where a point is, in pixels.
            width, height: of what is seen, in pixels.
        """
        places = spots([(p.label, *at(p)) for p in wanted], [at(p) for p in (*self.curve, *self.rivals)], width, height)
        return [(p, spot) for p, spot in zip(wanted, places, strict=True) if spot is not None]


def frontier_series(points: Sequence[Point], others: Sequence[Point] = (), chosen: Point | None = None) -> FrontierSeries:
    """The curve and its knee, the rivals, and a plan that was chosen.

    Args:
        points: the plans that no other beats in both bytes and time, by ascending peak.
        others: where other policies stand.
        chosen: a plan to be marked.
    """
    fastest, knee = points[-1], knee_of(points)
    groups: list[Group] = []
    for start, marker, colour in _MARKERS:
        by_name: dict[str, list[Point]] = {}
        for p in others:
            if p.policy.startswith(start):
                name = p.policy if start == "jax.checkpoint" else start.replace("every", "every k")
                by_name.setdefault(name, []).append(p)
        for k, (name, own) in enumerate(by_name.items()):
            placed = [_placed(p, fastest) for p in own]
            groups.append(Group(name, marker, colour, not k % 2, 9 - 2 * (k // 2), placed))
    unknown: dict[str, list[Placed]] = {}
    for p in others:
        if not p.policy.startswith(tuple(start for start, _, _ in _MARKERS)):
            name = p.policy.partition(" within ")[0]
            unknown.setdefault(name, []).append(_placed(p, fastest)._replace(label=name))
    groups += [Group(name, *_OTHER, not k % 2, 9 - 2 * (k // 2), own) for k, (name, own) in enumerate(unknown.items())]
    curve = tuple(_placed(p, fastest) for p in points)
    chosen_ones = [_placed(chosen, fastest)] if chosen else []
    rivals = [p for group in groups for p in group.points]
    return FrontierSeries(
        curve,
        knee and _placed(knee, fastest),
        chosen and _placed(chosen, fastest),
        tuple(groups),
        int(_near([p.bytes for p in [*curve, *chosen_ones]], [p.bytes for p in rivals])),
        _near([p.ratio for p in [*curve, *chosen_ones]], [p.ratio for p in rivals]),
    )


def _placed(point: Point, fastest: Point) -> Placed:
    """If no plan takes any time, all are as fast as the fastest."""
    ratio = point.seconds / fastest.seconds if fastest.seconds else 1.0
    return Placed(_label(point.policy), point.policy, point.peak_bytes, ratio)


def _label(policy: str) -> str:
    """What is short enough to stand beside a point: of a policy with a number the number."""
    number = re.search(r"(\d+)\D*$", policy)
    return f"{'k = ' if policy.startswith('every') else ''}{number[1]}" if number else policy


def _near(own: list[int] | list[float], others: list[int] | list[float]) -> float:
    """Up to where the axis goes: the curve's end, and the points beyond it as long as none is far from the one before."""
    end = float(max(own))
    for value in sorted(v for v in others if v > end):
        if value > FAR * end:
            break
        end = value
    return end
