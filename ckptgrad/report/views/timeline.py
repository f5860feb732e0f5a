"""A timeline in a terminal: a chart of live bytes over time, the buffers alive at the peak, and what the meters read."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.chain.layers import ranged
from ckptgrad.meters.buffers import KINDS, Buffer
from ckptgrad.meters.meter import meters
from ckptgrad.report import registry
from ckptgrad.report.legend import kind_words
from ckptgrad.report.plots.timeline import plot_timeline
from ckptgrad.report.series.chunks import chunk_words
from ckptgrad.report.series.words import INSIDE, during
from ckptgrad.report.tables import budget_words, need_words, ranges, table_of
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, ROWS = 72, 14
MOST_ALIVE, MOST_INSIDE = 12, 8
# What outlives a stage is written large.
_LARGE = frozenset({"results", "boundaries"})


def _letters(kinds: Iterable[str]) -> dict[str, str]:
    """A letter of its own for each kind: the first of its name that is not taken."""
    letters: dict[str, str] = {}
    for kind in kinds:
        name = kind.upper() if kind in _LARGE else kind
        letters[kind] = next(c for c in name + string.ascii_letters if c not in letters.values())
    return letters


# One letter per kind, for terminals without colours.
_LETTERS = _letters(KINDS)
_COLOURS = dict(zip(KINDS, itertools.cycle(("white", "blue", "cyan", "yellow", "magenta", "green"))))


@registry.parts.register(Timeline)
def parts(timeline: Timeline) -> list[RenderableType]:
    """The chart, the buffers alive at the peak, and the meters."""
    peak = timeline.moments[timeline.peak_at]
    budget = budget_words(timeline.budget, timeline.least, timeline.budget_source)
    head = (
        f"{timeline.name}: live bytes beyond the arguments, {budget}; predicted peak "
        f"{format_bytes(timeline.peak_bytes)}{device_words(timeline.devices)} during the {during(peak)}"
    )
    if timeline.arguments:
        head += f"\nheld beside them: {need_words(timeline.arguments, timeline.peak_bytes)}"
    if timeline.chunks:
        head += f"\nchunks, one after the other: {'; '.join(chunk_words(timeline.chunks))}"
    shown: list[RenderableType] = [Text(head), _chart(timeline)]
    shown += [Text(_alive_words(timeline)), alive_table(timeline.alive, timeline.inside)]
    seen = timeline.readings.get("xla")
    if seen is not None and seen.alive:
        shown += [Text("alive at the peak of XLA's buffer assignment"), alive_table(seen.alive)]
    words = {b.kind for b in timeline.alive} | ({INSIDE} if timeline.inside else set[str]())
    shown.append(Text(kind_words(words), style="dim"))
    return [*shown, _readings(timeline)] if timeline.readings else shown


@registry.advice.register(Timeline)
def advice(timeline: Timeline) -> Callable[[], Sequence[Advice]] | None:
    """What its plan suggests to do."""
    return timeline.advise


@registry.figures.register(Timeline)
def figures(timeline: Timeline) -> dict[str, Callable[..., Figure]]:
    """Live bytes over time."""
    return {"timeline": partial(plot_timeline, timeline)}


def _chart(timeline: Timeline) -> Text:
    """Columns of time, each filled from below with the letters of kinds; the peak is marked underneath."""
    highest = max([timeline.peak_bytes, timeline.budget or 0]) or 1
    course = timeline.course
    columns = [_held_at(course, (k + 0.5) / COLUMNS) for k in range(COLUMNS)]
    peak_column = min(COLUMNS - 1, int(COLUMNS * sum(timeline.worst) / 2))
    at_peak = max((held for _, _, held in course), key=lambda held: sum(held.values()))
    columns[peak_column] = at_peak
    stacks = [_stack([held[kind] for kind in KINDS], highest) for held in columns]
    limit = None if timeline.budget is None else round(ROWS * timeline.budget / highest)
    text = Text(no_wrap=True)
    for row in range(ROWS, 0, -1):
        text.append(f"{format_bytes(round(highest * row / ROWS)):>10} ")
        for stack in stacks:
            kind = stack[row - 1] if row <= len(stack) else None
            empty = "-" if row == limit else " "
            text.append(empty if kind is None else _LETTERS[kind], style=_COLOURS.get(kind or "", "dim"))
        text.append("\n")
    text.append(" " * 11 + " " * peak_column + "^ peak\n")
    text.append(" " * 11 + "  ".join(f"{_LETTERS[kind]} {kind}" for kind in KINDS), style="dim")
    if limit is not None:
        text.append("  - budget", style="dim")
    return text


def _held_at(course: Sequence[tuple[float, float, Mapping[str, int]]], share: float) -> Mapping[str, int]:
    """What is held at a share of the time."""
    return next((held for _, end, held in course if end > share), course[-1][2])


def _stack(bytes_: Sequence[int], highest: int) -> list[str]:
    """The kind of each filled row, from below."""
    rows: list[str] = []
    total = 0
    for kind, size in zip(KINDS, bytes_, strict=True):
        total += size
        rows += [kind] * (round(ROWS * total / highest) - len(rows))
    return rows


def _alive_words(timeline: Timeline) -> str:
    inside = "; which arrays are held inside is an estimate" if timeline.inside else ""
    return f"alive at the predicted peak{inside}"


def alive_table(alive: Sequence[Buffer], inside: Sequence[Buffer] = (), most: int = MOST_ALIVE) -> Table:
    """Buffers, largest first; those that differ only in their stage share a row.

    Below the transients stand the arrays `inside` that they are estimated to be; these are not counted again.
    """
    text = ("kind", "type", "made by", "stage", "source")
    table = table_of("bytes", *text, left=text, wrapped=("source",))
    groups = _alike(alive)
    for group in groups[:most]:
        table.add_row(*_cells(group, group[0].kind))
        if group[0].kind == "transients" and group[0].shape is None:
            for part in _alike(inside)[:MOST_INSIDE]:
                table.add_row(*_cells(part, INSIDE))
    if len(groups) > most:
        rest = sum(b.bytes for group in groups[most:] for b in group)
        table.add_row(format_bytes(rest), f"{len(groups) - most} more rows", "", "", "", "")
    return table


def _cells(group: Sequence[Buffer], kind: str) -> tuple[str, ...]:
    """A row for buffers that differ only in their stage."""
    first = group[0]
    total = sum(b.bytes for b in group)
    type_ = f"{first.type} x {len(group)}" if len(group) > 1 else first.type
    stages = sorted({b.stage for b in group if b.stage is not None})
    layers = ranged([b.source.scope for b in group if b.source]) if first.source else ""
    place = "" if first.source is None else replace(first.source, scope=layers).brief
    made = first.made if len(group) == 1 else first.what
    return format_bytes(total), kind, type_, made, ranges(stages), place


def _alike(alive: Sequence[Buffer]) -> list[list[Buffer]]:
    """Groups of buffers that differ only in their stage, the largest group first."""
    groups: dict[tuple[object, ...], list[Buffer]] = {}
    for b in alive:
        groups.setdefault((b.kind, b.what, b.type, b.source), []).append(b)
    return sorted(groups.values(), key=lambda group: -sum(b.bytes for b in group))


def _readings(timeline: Timeline) -> Table:
    table = table_of("meter", "peak", "vs predicted", "sees", left=("meter", "sees"), wrapped=("sees",))
    known = meters()
    for name, reading in timeline.readings.items():
        if reading.bytes is None:
            table.add_row(known[name].label, "n/a", "", reading.reason or "")
        else:
            error = reading.bytes / timeline.peak_bytes - 1 if timeline.peak_bytes else 0.0
            sees = reading.reason or known[name].sees
            table.add_row(known[name].label, format_bytes(reading.bytes), f"{error:+.1%}", sees)
    return table
