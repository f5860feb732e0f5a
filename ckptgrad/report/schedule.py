"""A schedule as a space-time diagram: its points and spans, and the diagram in letters for terminals."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule, unknown_action

COLUMNS, ROWS = 96, 24
_STYLES = {"f": "white", "r": "red", "k": "cyan", "b": "yellow", "-": "blue"}
_WORDS = "f forward  r repeated forward  k forward that keeps residuals  b backward  - boundary held"


class SpaceTime(NamedTuple):
    """A schedule as points and spans; time counts forwards and backwards.

    Attributes:
        held: (boundary, from, to).
        first, again, kept, back: (time, stage) of first forwards, repeated ones, those that keep residuals, and backwards.
        time: the number of forwards and backwards.
    """

    held: list[tuple[int, int, int]]
    first: list[tuple[int, int]]
    again: list[tuple[int, int]]
    kept: list[tuple[int, int]]
    back: list[tuple[int, int]]
    time: int


def spacetime(schedule: Schedule, stages: int) -> SpaceTime:
    """Which stage a schedule works on at what time, and when it holds which boundary."""
    held, first, again, kept, back = [], [], [], [], []
    since: dict[int, int] = {}
    seen: set[int] = set()
    time = 0
    for action in schedule:
        match action:
            case Forward(stage, keep, output):
                (again if stage in seen else first).append((time, stage))
                seen.add(stage)
                if keep is not None:
                    kept.append((time, stage))
                if output and stage + 1 < stages:
                    since.setdefault(stage + 1, time)
            case Backward(stage):
                back.append((time, stage))
            case Free(boundary):
                if boundary in since:
                    held.append((boundary, since.pop(boundary), time))
                continue
            case _:
                raise unknown_action(action)
        time += 1
    held += [(boundary, start, time) for boundary, start in since.items()]
    return SpaceTime(held, first, again, kept, back, time)


def schedule_chart(schedule: Schedule, stages: int) -> Text:
    """Stages upwards, time to the right; neighbours share a letter where there are too many of either."""
    diagram = spacetime(schedule, stages)
    columns, rows = min(COLUMNS, max(1, diagram.time)), min(ROWS, stages)
    grid = [[" "] * columns for _ in range(rows)]

    def put(time: int, stage: int, letter: str) -> None:
        grid[stage * rows // stages][min(columns - 1, time * columns // max(1, diagram.time))] = letter

    for boundary, start, end in diagram.held:
        for column in range(start * columns // diagram.time, min(columns, 1 + (end - 1) * columns // diagram.time)):
            grid[boundary * rows // stages][column] = "-"
    for letter, points in (("f", diagram.first), ("r", diagram.again), ("k", diagram.kept), ("b", diagram.back)):
        for time, stage in points:
            put(time, stage, letter)
    text = Text(no_wrap=True)
    for row in reversed(range(rows)):
        text.append(f"{'stage ' + str(-(-row * stages // rows)):>12} ", style="dim")
        for letter in grid[row]:
            text.append(letter, style=_STYLES.get(letter))
        text.append("\n")
    text.append(f"{'':>12} {diagram.time} forwards and backwards, from left to right\n{'':>12} {_WORDS}", style="dim")
    return text
