"""Every buffer of a schedule as predicted, with the actions from which and until which it is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ckptgrad.chain.kind import private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.chain.waiting import waits
from ckptgrad.graph.graph import Atom, Operation, Variable
from ckptgrad.meters.buffers import Buffer
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Balance, Held, follow
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.made_by import made_by
from ckptgrad.results.predicted import Moment, within_layer


@dataclass(frozen=True, slots=True)
class Life:
    """A buffer, and the first and the last action during which it is held, by their places in the schedule."""

    buffer: Buffer
    first: int
    last: int


class _Group(NamedTuple):
    """What comes and goes together: the boundary or cotangent with that number, a stage's residuals by their option, or
    one of what waits beside cotangents.
    """

    kind: str
    number: int
    option: int = 0


def lives(program: Program, costs: ChainCosts, schedule: Schedule, moments: Sequence[Moment]) -> list[Life]:
    """All that is held at some time, in the order in which it comes; `moments` are those of the schedule.

    What an action holds beyond the buffers that have names is one buffer of transients.
    """
    found: list[Life] = [Life(b, 0, len(moments) - 1) for b in _sized(_results(program, costs.held_bytes))]
    always = sum(life.buffer.bytes for life in found)
    waiting = [*waits(program)]
    contents = {_Group("waiting", j): _sized([_of_program(program, v, kind)]) for j, (v, kind, _, _) in enumerate(waiting)}
    beside = [
        frozenset(j for j, (_, _, first, end) in enumerate(waiting) if first <= boundary < end)
        for boundary in range(len(program.stages) + 1)
    ]
    since: dict[_Group, int] = {}
    before: dict[str, frozenset[Any]] = {}
    named = 0
    for k, balance in enumerate(follow(costs, schedule)):
        now = {**_numbers(balance.held), "waiting": beside[balance.held.cotangents[0]]}
        for group in _groups(before, now):
            found += [Life(b, since[group], k - 1) for b in contents[group]]
            named -= sum(b.bytes for b in contents[group])
            del since[group]
        for group in _groups(now, before):
            if group not in contents:
                contents[group] = _sized(_buffers(program, group))
            since[group] = k
            named += sum(b.bytes for b in contents[group])
        before = now
        rest = moments[k].total - always - named
        if rest > 0 and balance.action.scope is not None:
            found.append(Life(_transients(program, balance, rest), k, k))
    for group, start in since.items():
        found += [Life(b, start, len(moments) - 1) for b in contents[group]]
    return sorted(found, key=lambda life: (life.first, -life.last))


def held_during(program: Program, balance: Balance) -> list[Buffer]:
    """The buffers that have names and are held during an action, largest first."""
    boundary = balance.held.cotangents[0]
    waiting = [_of_program(program, v, kind) for v, kind, first, end in waits(program) if first <= boundary < end]
    groups = [b for group in sorted(_groups(_numbers(balance.held), {})) for b in _buffers(program, group)]
    return sorted(_sized([*_results(program, balance.stored.results), *waiting, *groups]), key=lambda b: -b.bytes)


def _sized(buffers: Iterable[Buffer]) -> list[Buffer]:
    return [b for b in buffers if b.bytes]


def _numbers(held: Held) -> dict[str, frozenset[Any]]:
    """What is held by kind: its number or, of residuals, that of their stage and of their option."""
    return {
        "boundaries": held.boundaries - {0},
        "residuals": frozenset(held.residuals.items()),
        "gradients": frozenset(held.cotangents) - {0},
    }


def _groups(held: Mapping[str, frozenset[Any]], other: Mapping[str, frozenset[Any]]) -> list[_Group]:
    """What is held in one and not in the other."""
    return [
        _Group(kind, *(what if isinstance(what, tuple) else (what,)))
        for kind, numbers in held.items()
        for what in numbers - other.get(kind, frozenset())
    ]


def _buffers(program: Program, group: _Group) -> Iterator[Buffer]:
    i = group.number
    if group.kind == "boundaries":
        for v in program.stages[i - 1].boundary_out:
            yield _of_program(program, v, "boundaries")
    elif group.kind == "residuals":
        kind = program.stages[i].kind
        option = kind.options[group.option]
        made = {v: op for op in option.partition.forward_operations for v in op.outputs}
        for v in private_residuals(kind, option):
            yield _array(program, "residuals", v, made.get(v), i)
    else:
        stage = program.stages[i - 1]
        crossing = {*stage.kind.boundary_out}
        for k, v in zip(stage.kind.seeds, stage.kind.joint.cotangents, strict=True):
            if k in crossing:
                yield _array(program, "gradients", v, None, i, f"cotangent of boundary {i}")


def _transients(program: Program, balance: Balance, size: int) -> Buffer:
    action = balance.action
    doing, source = type(action).__name__.lower(), program.places[action.about]
    return Buffer("transients", size, f"inside the {doing}", stage=action.about, source=source)


def _results(program: Program, held: int) -> list[Buffer]:
    """What is held through the whole call, of so many bytes: tables are what is no result (`costs.compiled`)."""
    graph = program.graph
    makers = [graph.get_operation(a) if isinstance(a, Variable) else None for a in graph.outputs]
    buffers = [_array(program, "results", a, op, None, "output") for a, op in zip(graph.outputs, makers, strict=True)]
    if program.untraced_bytes:
        buffers.append(Buffer("results", program.untraced_bytes, "constant outputs"))
    names = dict(zip(graph.inputs, program.arguments, strict=False))
    for v in program.wrt:
        gradient = _array(program, "results", program.gradient_of(v), None, None, "gradient of an argument")
        buffers.append(replace(gradient, name=names.get(v, "")))
    return [*buffers, Buffer("results", table_bytes(program, held), "tables of tuples")]


def table_bytes(program: Program, held: int) -> int:
    """What is no result of so many bytes that are held through the whole call."""
    return max(0, held - program.output_bytes - program.gradient_bytes)


def _of_program(program: Program, v: Variable, kind: str) -> Buffer:
    maker = program.graph.get_operation(v)
    what = f"gradient of {made_by(maker) if maker else 'an argument'}" if kind == "gradients" else ""
    return _array(program, kind, v, maker, program.makers.get(v), what)


def _array(program: Program, kind: str, a: Atom, maker: Operation | None, stage: int | None, what: str = "") -> Buffer:
    name, aval = what or made_by(maker), a.aval
    source = within_layer(maker.source if maker else None, program, stage)
    return Buffer(kind, program.target.bytes_of(a), name, tuple(aval.shape), str(aval.dtype), stage, source)
