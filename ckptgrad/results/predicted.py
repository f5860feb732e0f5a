"""The memory of a schedule as predicted: what is held during each action, by kind, and each buffer of one moment.

The totals are the ledger's (`planning.ledger`), action by action; here they are split into kinds and buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ckptgrad.chain.kind import private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.chain.stage_course import backward_course, forward_course
from ckptgrad.chain.waiting import waiting, waiting_bytes
from ckptgrad.graph.graph import Atom, Operation, Variable
from ckptgrad.graph.source import SourceLine
from ckptgrad.meters.buffers import Buffer
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Balance, follow
from ckptgrad.planning.schedule import Backward, Forward, Schedule
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
    """

    action: str
    stage: int
    start: float
    end: float
    bytes: Mapping[str, int]
    inside: tuple[tuple[float, int], ...] = ()

    @property
    def total(self) -> int:
        """Bytes held in total."""
        return sum(self.bytes.values())


def moments(program: Program, costs: ChainCosts, schedule: Schedule) -> list[Moment]:
    """What each action holds, by kind."""
    between = tuple(waiting_bytes(program))
    found: list[Moment] = []
    kept: dict[int, int | None] = {}
    for balance in follow(costs, schedule):
        action, course = balance.action, list[tuple[float, int]]()
        if isinstance(action, Forward):
            kept[action.stage] = action.keep
            course = forward_course(program.stages[action.stage].kind, action.keep)
        elif isinstance(action, Backward) and (keep := kept[action.stage]) is not None:
            course = backward_course(program.stages[action.stage].kind, keep)
        found.append(_with_inside(_by_kind(balance, between), course))
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


def _by_kind(balance: Balance, between: tuple[int, ...]) -> Moment:
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


def buffers_during(program: Program, costs: ChainCosts, schedule: Schedule, index: int, total: int) -> list[Buffer]:
    """Each buffer held during the action at `index`, largest first; `total` bytes in total."""
    balance = next(itertools.islice(follow(costs, schedule), index, None))
    action, (boundaries, residuals, cotangents) = balance.action, balance.held
    buffers = _results(program)
    for i in sorted(boundaries - {0}):
        buffers += [_of_program(program, v, "boundaries", i - 1) for v in program.stages[i - 1].boundary_out]
    buffers += [_of_program(program, v, kind, None) for v, kind in waiting(program, cotangents[0])]
    for i, keep in sorted(residuals.items()):
        kind = program.stages[i].kind
        option = kind.options[keep]
        made = {v: op for op in option.partition.forward_operations for v in op.outputs}
        buffers += [_array(program, "residuals", v, made.get(v), i) for v in private_residuals(kind, option)]
    for i in cotangents:
        if i:
            stage = program.stages[i - 1]
            crossing = {*stage.kind.boundary_out}
            pairs = zip(stage.kind.seeds, stage.kind.joint.cotangents, strict=True)
            buffers += [
                _array(program, "gradients", v, None, i, f"cotangent of boundary {i}") for k, v in pairs if k in crossing
            ]
    rest = total - sum(b.bytes for b in buffers)
    if rest > 0 and action.scope is not None:
        doing, source = type(action).__name__.lower(), program.places[action.about]
        buffers.append(Buffer("transients", rest, f"inside the {doing}", stage=action.about, source=source))
    return sorted((b for b in buffers if b.bytes), key=lambda b: -b.bytes)


def _results(program: Program) -> list[Buffer]:
    graph = program.graph
    makers = [graph.get_operation(a) if isinstance(a, Variable) else None for a in graph.outputs]
    buffers = [_array(program, "results", a, op, None, "output") for a, op in zip(graph.outputs, makers, strict=True)]
    if program.untraced_bytes:
        buffers.append(Buffer("results", program.untraced_bytes, "constant outputs"))
    gradients = map(program.gradient_of, program.wrt)
    return buffers + [_array(program, "results", g, None, None, "gradient of an argument") for g in gradients]


def _of_program(program: Program, v: Variable, kind: str, stage: int | None, what: str = "") -> Buffer:
    return _array(program, kind, v, program.graph.get_operation(v), stage, what)


def _array(program: Program, kind: str, a: Atom, maker: Operation | None, stage: int | None, what: str = "") -> Buffer:
    name, aval = what or (maker.name if maker else "argument"), a.aval
    source = within_layer(maker.source if maker else None, program, stage)
    return Buffer(kind, program.target.bytes_of(a), name, tuple(aval.shape), str(aval.dtype), stage, source)


def within_layer(source: SourceLine | None, program: Program, stage: int | None) -> SourceLine | None:
    """A line with the layer of its stage, if no scope says in which it ran; the place of the stage, if there is no line."""
    place = None if stage is None or not 0 <= stage < len(program.stages) else program.places[stage]
    if source is None or place is None or source.scope:
        return source or place
    return replace(source, scope=place.scope)
