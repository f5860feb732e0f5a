"""A schedule as a space-time diagram: its points and spans.

They follow the ledger's account of the schedule: an action that is new there is shown under its name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ckptgrad.graph.source import SourceLine
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import follow
from ckptgrad.planning.schedule import Action, Schedule
from ckptgrad.report.series.words import layer_of, line_of
from ckptgrad.results.over_chunks import Chunks

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

KEPT = "residuals kept"
# The marks of every schedule, in order.
MARKS = ("forward", "repeated forward", KEPT, "backward")


class Kept(NamedTuple):
    """Residuals of a stage: from when to when they are kept, and how much of what the stage could keep at most."""

    stage: int
    start: int
    end: int
    option: str
    bytes: int
    share: float


class SpaceTime(NamedTuple):
    """A schedule as points and spans. Time counts the actions that do work; freeing takes none.

    Attributes:
        held: (boundary, from, to).
        kept: what is kept inside stages.
        marks: (time, stage) of actions by their names, "repeated" before those that were run for this stage already, and
            of those that keep residuals once more under that name.
        time: the number of actions that do work.
        counted: what they are, in words: "forwards and backwards".
    """

    held: list[tuple[int, int, int]]
    kept: list[Kept]
    marks: dict[str, list[tuple[int, int]]]
    time: int
    counted: str


def spacetime(schedule: Schedule, costs: ChainCosts) -> SpaceTime:
    """Which stage a schedule works on at what time, and when it holds which boundary.

    Raises:
        ScheduleError: the ledger does not know an action.
    """
    held: list[tuple[int, int, int]] = []
    marks: dict[str, list[tuple[int, int]]] = {name: [] for name in MARKS}
    since: dict[int, int] = {}
    seen: dict[tuple[str, int], None] = {}
    residuals: dict[int, int] = {}
    kept, begun = list[Kept](), dict[int, int]()
    time = 0
    for balance in follow(costs, schedule):
        action, now = balance.action, balance.held.boundaries
        held += [(boundary, since.pop(boundary), time) for boundary in sorted(since.keys() - now)]
        since |= {boundary: time for boundary in now - since.keys() if 0 < boundary < len(costs)}
        if action.scope is not None:
            name = _name(action)
            again = (name, action.about) in seen
            seen[name, action.about] = None
            marks.setdefault(f"repeated {name}" if again else name, []).append((time, action.about))
            if balance.held.residuals.keys() - residuals.keys():
                marks[KEPT].append((time, action.about))
        kept += [_kept(costs, i, residuals[i], begun.pop(i), time) for i in residuals.keys() - balance.held.residuals.keys()]
        begun |= dict.fromkeys(balance.held.residuals.keys() - begun.keys(), time)
        residuals = balance.held.residuals
        time += action.scope is not None
    held += [(boundary, start, time) for boundary, start in since.items()]
    kept += [_kept(costs, i, residuals[i], start, time) for i, start in begun.items()]
    *others, last = dict.fromkeys(f"{name}s" for name, _ in seen)
    counted = f"{', '.join(others)} and {last}"
    return SpaceTime(held, kept, {name: points for name, points in marks.items() if points}, time, counted)


def _kept(costs: ChainCosts, stage: int, option: int, start: int, end: int) -> Kept:
    options = costs.stages[stage].options
    own, most = options[option].residual_bytes, max(o.residual_bytes for o in options)
    return Kept(stage, start, end, options[option].name, own, own / most if most else 0.0)


def _name(action: Action) -> str:
    """What an action is, in words: its class's name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(action).__name__).lower()


def stage_labels(plan: Plan) -> list[str]:
    """The stages of a plan: each by its number and its layer or, where nothing names that, its line; and its chunks."""
    return [stage_label(i, place, plan.chunks.get(i)) for i, place in enumerate(plan.program.places)]


def stage_label(stage: int, place: SourceLine | None, chunks: Chunks | None = None) -> str:
    """A stage by its number and its layer or its line: "3  Block_1/attn, 8 chunks"."""
    label = f"{stage}  {layer_of(place) or line_of(place)}".rstrip()
    return f"{label}, {chunks.count} chunks" if chunks else label
