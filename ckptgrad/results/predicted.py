"""The memory of a schedule as predicted: what is held during each action, by kind.

The totals are the ledger's (`planning.ledger`), action by action; here they are split into kinds, in `lives` into buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ckptgrad.chain.program import Program
from ckptgrad.chain.stage_course import backward_course, forward_course
from ckptgrad.chain.waiting import waiting_bytes
from ckptgrad.graph.source import SourceLine, is_installed
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Balance, follow
from ckptgrad.planning.schedule import Backward, Forward, Schedule
from ckptgrad.results.over_chunks import Chunks, actions_over_chunks
from ckptgrad.target.course import Course, lifted


@dataclass(frozen=True, slots=True)
class Moment:
    """One action of a schedule.

    Attributes:
        action: as the schedule writes it: "F3:1", "B3".
        stage: the stage, or for the freeing of a boundary the boundary, that it is about.
        start, end: estimated seconds since the call began.
        bytes: what is held at its worst moment, by kind of buffer.
        inside: where loops make transients go up and down: until when, in seconds as `end`, and how many bytes.
        place: of an action that computes, where its stage comes from.
        chunks: of an action that runs over chunks, how many, of how many entries of which axis.
    """

    action: str
    stage: int
    start: float
    end: float
    bytes: Mapping[str, int]
    inside: tuple[tuple[float, int], ...] = ()
    place: SourceLine | None = None
    chunks: Chunks | None = None

    @property
    def total(self) -> int:
        """Bytes held in total."""
        return sum(self.bytes.values())


def moments(program: Program, costs: ChainCosts, schedule: Schedule) -> list[Moment]:
    """What each action holds, by kind."""
    between = tuple(waiting_bytes(program))
    found: list[Moment] = []
    kept: dict[int, int | None] = {}
    for balance, chunks in zip(follow(costs, schedule), actions_over_chunks(program, schedule), strict=True):
        action, course = balance.action, list[tuple[float, int]]()
        if isinstance(action, Forward):
            kept[action.stage] = action.keep
            course = forward_course(program.stages[action.stage].kind, action.keep)
        elif isinstance(action, Backward) and (keep := kept[action.stage]) is not None:
            course = backward_course(program.stages[action.stage].kind, keep)
        moment = by_kind(balance, between)
        if action.scope is not None:
            moment = replace(moment, place=program.places[action.about], chunks=chunks)
        found.append(_with_inside(moment, course))
    return found


def _with_inside(moment: Moment, course: Course) -> Moment:
    """A moment with the course of its transients: as long as it is, and as high."""
    highest = moment.bytes["transients"]
    if not course or not highest:
        return moment
    ends, inside = moment.start, list[tuple[float, int]]()
    for seconds, held in lifted(course, moment.end - moment.start, highest):
        ends += seconds
        inside.append((ends, held))
    return replace(moment, inside=tuple(inside))


def by_kind(balance: Balance, between: tuple[int, ...]) -> Moment:
    """A moment from a balance of the ledger.

    What waits beside cotangents, which costs count with them, is counted by its own kind.
    """
    bytes_ = balance.stored._asdict()
    first, *later = (between[boundary] for boundary in balance.held.cotangents)
    bytes_["gradients"] -= first + sum(later)
    bytes_["boundaries"] += first
    transients = balance.transients + sum(later)
    # A backward that writes over what it reads holds less than the two together.
    bytes_["gradients"] += min(transients, 0)
    bytes_["transients"] = max(transients, 0)
    return Moment(str(balance.action), balance.action.about, balance.start, balance.end, bytes_)


def within_layer(source: SourceLine | None, program: Program, stage: int | None) -> SourceLine | None:
    """A line with the layer of its stage, if no scope says in which it ran; the place of the stage, if there is no line.

    What was traced from no line, such as a loop over chunks, has the line of what started it, of some library.
    """
    place = None if stage is None or not 0 <= stage < len(program.stages) else program.places[stage]
    if source is not None and place is not None and is_installed(source.file) and not is_installed(place.file):
        return place
    if source is None or place is None or source.scope:
        return source or place
    return replace(source, scope=place.scope)
