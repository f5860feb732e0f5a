"""A schedule as a space-time diagram in letters, for terminals."""

from __future__ import annotations

import string
from collections.abc import Iterable

from rich.text import Text

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Schedule
from ckptgrad.report.series.spacetime import KEPT, spacetime

COLUMNS, ROWS = 96, 24
# The letter and the colour of each mark; of others the letter is the first of its name that is not taken.
_LOOKS = {"forward": ("f", "white"), "repeated forward": ("r", "red"), KEPT: ("k", "cyan"), "backward": ("b", "yellow")}
_HELD = ("-", "blue")


def schedule_chart(schedule: Schedule, costs: ChainCosts, notes: Iterable[str] = ()) -> Text:
    """Stages upwards, time to the right; neighbours share a letter where there are too many of either.

    Args:
        schedule: what is drawn.
        costs: of its chain.
        notes: what is said below it, in lines.
    """
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
    below = [f"{diagram.time} {diagram.counted}, from left to right", words, *notes]
    text.append("\n".join(f"{'':>12} {line}" for line in below), style="dim")
    return text


def _looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The letter and the colour of each mark, those of every schedule first."""
    looks = dict(_LOOKS)
    for name in names:
        used = {letter for letter, _ in (*looks.values(), _HELD)}
        looks.setdefault(name, (next(c for c in name + string.ascii_letters if c not in used | {" "}), "magenta"))
    return looks
