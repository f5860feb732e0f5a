"""The course of a schedule on paper: what is held during each action, by kind, and each buffer of one moment.

The totals are the referee's (`planning.referee`), action by action; here they are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ckptgrad.chain.kind import private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.chain.waiting import waiting
from ckptgrad.graph.graph import Atom, Operation, Variable, aval_bytes
from ckptgrad.meters.buffers import Buffer
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Action, Backward, Forward, Free, Schedule, unknown_action


@dataclass(frozen=True, slots=True)
class Moment:
    """One action of a schedule.

    Attributes:
        action: as the schedule writes it: "F3:1", "B3".
        stage: the stage it is about.
        start, end: estimated seconds since the call began.
        bytes: what is held at its worst moment, by kind.
    """

    action: str
    stage: int
    start: float
    end: float
    bytes: Mapping[str, int]

    @property
    def total(self) -> int:
        """All that is held, in bytes."""
        return sum(self.bytes.values())


@dataclass
class _Held:
    """What a schedule holds between two actions."""

    cotangent: int
    boundaries: set[int] = field(default_factory=lambda: {0})
    residuals: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0


def moments(costs: ChainCosts, schedule: Schedule, timeline: tuple[int, ...], between: tuple[int, ...]) -> list[Moment]:
    """What each action holds, by kind.

    Args:
        costs: of the chain.
        schedule: the actions.
        timeline: the referee's bytes during each action.
        between: for each boundary what waits beside its cotangent (`waiting`), in bytes; 0 for costs without a program.
    """
    found = []
    for index, (action, held, seconds) in enumerate(_follow(costs, schedule)):
        boundaries, residuals = set(held.boundaries), dict(held.residuals)
        waiting_bytes = between[held.cotangent]
        gradients = costs.cotangent_bytes(held.cotangent) - waiting_bytes
        stage = action.boundary if isinstance(action, Free) else action.stage
        if isinstance(action, Forward):
            boundaries |= {stage + 1} if action.output else set()
            residuals |= {} if action.keep is None else {stage: action.keep}
        elif isinstance(action, Backward):
            gradients += costs.cotangent_bytes(stage) - between[stage]
        by_kind = {
            "results": costs.held_bytes,
            "boundaries": sum(map(costs.boundary_bytes, boundaries)) + waiting_bytes,
            "residuals": sum(costs.stages[i].options[k].residual_bytes for i, k in residuals.items()),
            "gradients": gradients,
            "transients": 0,
        }
        rest = timeline[index] - sum(by_kind.values())
        # A backward that writes over what it reads holds less than the two together.
        by_kind["gradients"] += min(rest, 0)
        by_kind["transients"] = max(rest, 0)
        found.append(Moment(str(action), stage, held.seconds, held.seconds + seconds, by_kind))
    return found


def _follow(costs: ChainCosts, schedule: Schedule) -> Iterator[tuple[Action, _Held, float]]:
    """Each action with what is held before it, and its seconds."""
    held = _Held(len(costs))
    for action in schedule:
        seconds = 0.0
        if isinstance(action, Forward):
            seconds = costs.stages[action.stage].forward_seconds(action.keep, action.output)
        elif isinstance(action, Backward):
            seconds = costs.stages[action.stage].options[held.residuals[action.stage]].backward_time
        yield action, held, seconds
        held.seconds += seconds
        match action:
            case Forward(stage, keep, output):
                if keep is not None:
                    held.residuals[stage] = keep
                if output:
                    held.boundaries.add(stage + 1)
            case Backward(stage):
                del held.residuals[stage]
                held.cotangent = stage
            case Free(boundary):
                held.boundaries.discard(boundary)
            case _:
                raise unknown_action(action)


def buffers_during(program: Program, costs: ChainCosts, schedule: Schedule, index: int, total: int) -> list[Buffer]:
    """Each buffer that is held during the action at `index`, largest first; together `total` bytes."""
    action, held = next((a, h) for i, (a, h, _) in enumerate(_follow(costs, schedule)) if i == index)
    boundaries, residuals = set(held.boundaries), dict(held.residuals)
    cotangents = [held.cotangent]
    if isinstance(action, Forward):
        boundaries |= {action.stage + 1} if action.output else set()
        residuals |= {} if action.keep is None else {action.stage: action.keep}
    elif isinstance(action, Backward):
        cotangents.append(action.stage)
    found = _results(program)
    for i in sorted(boundaries - {0}):
        found += [_of_program(program, v, "boundaries", i - 1) for v in program.stages[i - 1].boundary_out]
    found += [_of_program(program, v, kind, None) for v, kind in waiting(program, held.cotangent)]
    for i, keep in sorted(residuals.items()):
        kind = program.stages[i].kind
        option = kind.options[keep]
        made = {v: op for op in option.partition.forward_operations for v in op.outputs}
        found += [_array("residuals", v, made.get(v), i) for v in private_residuals(kind, option)]
    for i in cotangents:
        if i:
            stage = program.stages[i - 1]
            crossing = {*stage.kind.boundary_out}
            pairs = zip(stage.kind.seeds, stage.kind.joint.cotangents, strict=True)
            found += [_array("gradients", v, None, i, f"cotangent of boundary {i}") for k, v in pairs if k in crossing]
    rest = total - sum(b.bytes for b in found)
    if rest > 0 and not isinstance(action, Free):
        doing = "backward" if isinstance(action, Backward) else "forward"
        source = program.stages[action.stage].source
        found.append(Buffer("transients", rest, f"inside the {doing}", stage=action.stage, source=source))
    return sorted((b for b in found if b.bytes), key=lambda b: -b.bytes)


def _results(program: Program) -> list[Buffer]:
    graph = program.graph
    made = [graph.get_operation(a) if isinstance(a, Variable) else None for a in graph.outputs]
    found = [_array("results", a, op, None, "output") for a, op in zip(graph.outputs, made, strict=True)]
    if program.untraced_bytes:
        found.append(Buffer("results", program.untraced_bytes, "constant outputs"))
    return found + [_of_program(program, v, "results", None, "gradient of an argument") for v in program.wrt]


def _of_program(program: Program, v: Variable, kind: str, stage: int | None, what: str = "") -> Buffer:
    return _array(kind, v, program.graph.get_operation(v), stage, what)


def _array(kind: str, a: Atom, maker: Operation | None, stage: int | None, what: str = "") -> Buffer:
    name, aval = what or (maker.name if maker else "argument"), a.aval
    return Buffer(kind, aval_bytes(aval), name, tuple(aval.shape), str(aval.dtype), stage, maker.source if maker else None)
