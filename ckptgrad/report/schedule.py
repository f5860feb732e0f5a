"""A schedule as a space-time diagram: its points and spans, and the diagram in letters for terminals.

Both are drawn from the ledger's account of the schedule: an action that is new here is drawn under its name.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import NamedTuple

from rich.text import Text

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import follow
from ckptgrad.planning.schedule import Action, Schedule

COLUMNS, ROWS = 96, 24
KEPT = "residuals kept"
# The letter and the colour of each mark; of others the letter is the first of its name that is not taken.
_LOOKS = {"forward": ("f", "white"), "repeated forward": ("r", "red"), KEPT: ("k", "cyan"), "backward": ("b", "yellow")}
_HELD = ("-", "blue")


class SpaceTime(NamedTuple):
    """A schedule as points and spans. Time counts the actions that do work; freeing takes none.

    Attributes:
        held: (boundary, from, to).
        marks: (time, stage) of actions by their names, "repeated" before those that were run for this stage already, and
            of those that keep residuals once more under that name.
        time: the number of actions that do work.
        counted: what they are, in words: "forwards and backwards".
    """

    held: list[tuple[int, int, int]]
    marks: dict[str, list[tuple[int, int]]]
    time: int
    counted: str


def spacetime(schedule: Schedule, costs: ChainCosts) -> SpaceTime:
    """Which stage a schedule works on at what time, and when it holds which boundary.

    Raises:
        ScheduleError: the ledger does not know an action.
    """
    held: list[tuple[int, int, int]] = []
    marks: dict[str, list[tuple[int, int]]] = {name: [] for name in _LOOKS}
    since: dict[int, int] = {}
    seen: dict[tuple[str, int], None] = {}
    residuals: set[int] = set()
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
            if balance.held.residuals.keys() - residuals:
                marks[KEPT].append((time, action.about))
            time += 1
        residuals = {*balance.held.residuals}
    held += [(boundary, start, time) for boundary, start in since.items()]
    *others, last = dict.fromkeys(f"{name}s" for name, _ in seen)
    counted = f"{', '.join(others)} and {last}"
    return SpaceTime(held, {name: points for name, points in marks.items() if points}, time, counted)


def _name(action: Action) -> str:
    """What an action is, in words: its class's name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(action).__name__).lower()


def schedule_chart(schedule: Schedule, costs: ChainCosts) -> Text:
    """Stages upwards, time to the right; neighbours share a letter where there are too many of either."""
    diagram, stages = spacetime(schedule, costs), len(costs)
    columns, rows = min(COLUMNS, max(1, diagram.time)), min(ROWS, stages)
    grid = [[" "] * columns for _ in range(rows)]
    looks = _looks(diagram.marks)
    for boundary, start, end in diagram.held:
        for column in range(start * columns // diagram.time, min(columns, 1 + (end - 1) * columns // diagram.time)):
            grid[boundary * rows // stages][column] = _HELD[0]
    for name, points in diagram.marks.items():
        for time, stage in points:
            grid[min(stage, stages - 1) * rows // stages][min(columns - 1, time * columns // diagram.time)] = looks[name][0]
    styles = dict([*looks.values(), _HELD])
    text = Text(no_wrap=True)
    for row in reversed(range(rows)):
        text.append(f"{'stage ' + str(-(-row * stages // rows)):>12} ", style="dim")
        for letter in grid[row]:
            text.append(letter, style=styles.get(letter))
        text.append("\n")
    words = "  ".join(f"{letter} {name}" for name, (letter, _) in looks.items())
    words = f"{words}  {_HELD[0]} boundary held"
    text.append(f"{'':>12} {diagram.time} {diagram.counted}, from left to right\n{'':>12} {words}", style="dim")
    return text


def _looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The letter and the colour of each mark, those of every schedule first."""
    looks = dict(_LOOKS)
    for name in names:
        used = {letter for letter, _ in (*looks.values(), _HELD)}
        looks.setdefault(name, (next(c for c in name + string.ascii_letters if c not in used | {" "}), "magenta"))
    return looks
