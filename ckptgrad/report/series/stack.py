"""A timeline as a stack of buffers: what is there first lies lowest, and a buffer is one block while nothing moves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ckptgrad.meters.buffers import Buffer
from ckptgrad.results.lives import Life
from ckptgrad.results.timeline import Timeline

MOST_BLOCKS = 6000
MOST_STEPS = 400_000  # buffers times the moments that they are held: seconds of work


class Block(NamedTuple):
    """A buffer for a while: the number of its life, from when to when as shares of the time, between which bytes."""

    life: int
    left: float
    right: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Stack:
    """What is drawn of a timeline.

    Attributes:
        lives: the buffers, those first that lie lowest; behind them, by kind, buffers that are too small to be told apart.
        named: how many of them are single buffers.
        blocks: where they lie.
    """

    lives: tuple[Life, ...]
    named: int
    blocks: tuple[Block, ...]


class _Column(NamedTuple):
    """A moment or, where a loop makes transients rise and fall, a part of it: what is missing to the worst of the moment."""

    moment: int
    left: float
    right: float
    missing: int


def stack(timeline: Timeline, most: int = MOST_BLOCKS) -> Stack:
    """The blocks of a timeline; of one with very many, the smallest buffers of each kind are joined to one."""
    ordered = sorted(timeline.lives, key=lambda life: (life.buffer.kind != "results", life.first, -life.last))
    columns = list(_columns(timeline))
    named = len(ordered)
    while True:
        kept, small = _told_apart(ordered, named)
        steps = sum(life.last - life.first + 1 for life in kept)
        if named < 2 or steps <= MOST_STEPS:
            joined = list(_joined(small, len(timeline.moments)))
            blocks = list(_blocks(timeline, columns, kept, joined))
            if named < 2 or len(blocks) <= most:
                break
        named //= 2
    return Stack((*kept, *(life for life, _ in joined)), len(kept), tuple(blocks))


def _told_apart(lives: Sequence[Life], most: int) -> tuple[list[Life], list[Life]]:
    """The largest ones, in order, and the others."""
    if len(lives) <= most:
        return [*lives], []
    largest = sorted(range(len(lives)), key=lambda j: -lives[j].buffer.bytes)
    told = {*largest[:most]}
    return [lives[j] for j in sorted(told)], [lives[j] for j in sorted(largest[most:])]


def _joined(lives: Sequence[Life], moments: int) -> Iterator[tuple[Life, list[int]]]:
    """One life for each kind, and what it holds at each moment."""
    for kind in dict.fromkeys(life.buffer.kind for life in lives):
        change, own = [0] * (moments + 1), [life for life in lives if life.buffer.kind == kind]
        for life in own:
            change[life.first] += life.buffer.bytes
            change[life.last + 1] -= life.buffer.bytes
        held, total = [], 0
        for step in change[:moments]:
            total += step
            held.append(total)
        yield Life(Buffer(kind, max(held), f"{len(own)} smaller buffers"), 0, moments - 1), held


def _columns(timeline: Timeline) -> Iterator[_Column]:
    """The moments that take time; each part of those with loops inside."""
    for part in timeline.parts:
        if part.end > part.start:
            worst = timeline.moments[part.moment].bytes
            yield _Column(part.moment, part.start, part.end, worst.get("transients", 0) - part.bytes.get("transients", 0))


def _blocks(
    timeline: Timeline, columns: Sequence[_Column], lives: Sequence[Life], joined: Sequence[tuple[Life, Sequence[int]]]
) -> Iterator[Block]:
    """Column by column; a block ends where its buffer does, or where it lies higher or lower from then on."""
    comes: dict[int, list[int]] = {}
    for j, life in enumerate(lives):
        comes.setdefault(life.first, []).append(j)
    alive: list[int] = []
    lying: dict[int, Block] = {}
    now = -1
    for column in columns:
        for k in range(now + 1, column.moment + 1):
            alive += comes.get(k, [])
        now = column.moment
        alive = [j for j in alive if lives[j].last >= now]
        heights = [(j, lives[j].buffer.bytes) for j in alive] + [
            (len(lives) + j, held[now]) for j, (_, held) in enumerate(joined) if held[now]
        ]
        heights = _lowered(heights, sum(h for _, h in heights) - timeline.moments[now].total + column.missing)
        here: dict[int, Block] = {}
        height = 0
        for j, own in heights:
            top = height + own
            block = lying.get(j)
            if block is not None and (block.bottom, block.top, block.right) == (height, top, column.left):
                here[j] = block._replace(right=column.right)
            elif own:
                here[j] = Block(j, column.left, column.right, height, top)
            if block is not None and (j not in here or here[j].left != block.left):
                yield block
            height = top
        own_here = dict(heights)
        yield from (block for j, block in lying.items() if j not in own_here)
        lying = here
    yield from lying.values()


def _lowered(heights: list[tuple[int, int]], excess: int) -> list[tuple[int, int]]:
    """Without as many bytes at the top: what is written over what is read there, or not held in this part of a loop."""
    for place in range(len(heights) - 1, -1, -1):
        if excess <= 0:
            break
        j, own = heights[place]
        heights[place] = j, max(0, own - excess)
        excess -= min(own, excess)
    return heights
