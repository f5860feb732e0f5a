"""What a schedule holds at its worst moment, and what it would have to hold at least.

Boundaries, residuals and gradients are exact. What a stage holds inside is one figure of its costs; the arrays that it
consists of are those of the model of a fusing compiler (`target.footprint`), an estimate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ckptgrad.bytes import format_bytes
from ckptgrad.chain.inside import held_in_backward, held_in_forward
from ckptgrad.chain.program import Program
from ckptgrad.chain.waiting import waiting_bytes
from ckptgrad.graph.graph import Inside
from ckptgrad.graph.source import SourceLine
from ckptgrad.meters.buffers import Buffer
from ckptgrad.planning.budget import everything_peak
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Balance, balance_at, first_at
from ckptgrad.planning.nested import keep_fastest, write_nested
from ckptgrad.planning.optimal.dynamic_programming import smallest_schedule
from ckptgrad.planning.referee import Simulation, simulate
from ckptgrad.planning.schedule import Action, Backward, Forward, Schedule
from ckptgrad.results.lives import held_during, table_bytes
from ckptgrad.results.made_by import lines_of, made_by
from ckptgrad.results.predicted import by_kind, within_layer

# Arrays that a sentence names.
MOST_NAMED = 3
# What a stage holds inside beyond its arrays is worth a line from this share of it on.
WORTH = 0.1


@dataclass(frozen=True)
class AtPeak:
    """What a schedule holds at its worst moment.

    Attributes:
        action: what runs then.
        place: where the stage that it is about comes from.
        bytes: what is held, beyond the arguments.
        by_kind: the bytes of each kind, in words; those of 0 bytes left out.
        held: the buffers that stages hold for each other, largest first; what is held inside the stage left out.
        inside: the arrays that the stage holds inside, largest first: an estimate.
        seconds: of the whole schedule, estimated.
    """

    action: Action
    place: SourceLine | None
    bytes: int
    by_kind: Mapping[str, int]
    held: tuple[Buffer, ...]
    inside: tuple[Buffer, ...]
    seconds: float

    @property
    def stage(self) -> int:
        """The stage that it is about."""
        return self.action.about

    @property
    def doing(self) -> str:
        """What runs, in words: "the backward of stage 3 (blocks[3], model.py:12)"."""
        name = type(self.action).__name__.lower()
        what = "boundary" if self.action.scope is None else "stage"
        return f"the {name} of {what} {self.stage}" + ("" if self.place is None else f" ({self.place.brief})")

    @property
    def split(self) -> str:
        """Its bytes by kind, largest first: "2.0 MiB boundaries, 1.0 MiB gradients of arguments"."""
        kinds = sorted(self.by_kind.items(), key=lambda item: -item[1])
        return ", ".join(f"{format_bytes(size)} {kind}" for kind, size in kinds)

    @property
    def named(self) -> str:
        """The largest arrays inside the stage, in words; empty where there are none."""
        arrays = [b for b in self.inside if b.shape is not None]
        return ", ".join(named_arrays(arrays, self.place)[:MOST_NAMED])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in bytes and seconds."""
        return {
            "action": str(self.action),
            "stage": self.stage,
            "place": None if self.place is None else str(self.place),
            "bytes": self.bytes,
            "by_kind": dict(self.by_kind),
            "held": [b.to_dict() for b in self.held],
            "inside": [b.to_dict() for b in self.inside],
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Floor:
    """The smallest peak that a policy reaches, and what holds it up.

    Attributes:
        at_peak: what is held there.
        fastest_seconds: of the fastest schedule without a budget, estimated.
        everything_bytes: the peak when everything is stored, which budgets such as "0.5x" are shares of.
        is_guess: whether a compiler would be asked about a budget near it, and was not, as the one given is far below.
    """

    at_peak: AtPeak
    fastest_seconds: float
    everything_bytes: int
    is_guess: bool = False

    @property
    def bytes(self) -> int:
        """The smallest peak, beyond the arguments."""
        return self.at_peak.bytes

    @property
    def slowdown(self) -> float | None:
        """The estimated time there, in times that of the fastest schedule; None where that takes none."""
        return self.at_peak.seconds / self.fastest_seconds if self.fastest_seconds else None

    def __str__(self) -> str:
        """What is held at the floor and what it costs, for errors: one sentence a line."""
        peak = self.at_peak
        lines = [f"held there, as predicted, {format_bytes(peak.bytes)} during {peak.doing}: {peak.split}"]
        if peak.named:
            lines.append(f"the largest arrays inside, as estimated: {peak.named}")
        elif peak.held:
            lines.append(f"the largest arrays: {', '.join(named_arrays(peak.held, peak.place)[:MOST_NAMED])}")
        lines += time_words(self.slowdown)
        if self.is_guess:
            lines.append("the compiler was not asked about so small a budget, and may take more; budget='min' asks it")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.at_peak.to_dict(), "times_fastest": self.slowdown, "everything_bytes": self.everything_bytes}


def time_words(slowdown: float | None) -> list[str]:
    """A sentence on the time at a floor, in times that of the fastest plan; none where that is unknown."""
    return (
        [] if slowdown is None else [f"estimated time there: {slowdown:.2f} times that of the fastest plan without a budget"]
    )


def at_peak(program: Program, costs: ChainCosts, schedule: Schedule, simulation: Simulation | None = None) -> AtPeak:
    """What a schedule holds at its worst moment.

    Args:
        program, costs, schedule: of a plan.
        simulation: the referee's account of the schedule, if it is there already.
    """
    simulation = simulation or simulate(schedule, costs)
    return _described(program, balance_at(costs, schedule, simulation.peak_at), simulation.time)


def arrays_inside(program: Program, costs: ChainCosts, schedule: Schedule, index: int) -> tuple[Buffer, ...]:
    """The arrays that a stage holds inside during the action with that index, largest first: an estimate."""
    balance = balance_at(costs, schedule, index)
    return tuple(_all_inside(program, balance, balance.transients)) if balance.transients > 0 else ()


def _kept_for(balance: Balance) -> int | None:
    """The save option with which an action runs, if it has one."""
    action = balance.action
    return action.keep if isinstance(action, Forward) else balance.held.residuals.get(action.about)


def _described(program: Program, balance: Balance, seconds: float) -> AtPeak:
    """What is held at one moment of a schedule that takes so many seconds."""
    action, bytes_ = balance.action, by_kind(balance, tuple(waiting_bytes(program))).bytes
    results, gradients = bytes_["results"], min(bytes_["results"], program.gradient_bytes)
    inside, tables = bytes_["transients"], table_bytes(program, results)
    kinds = {
        "gradients of arguments": gradients,
        "outputs": results - gradients - tables,
        "tables of tuples": tables,
        "boundaries": bytes_["boundaries"],
        "residuals": bytes_["residuals"],
        "cotangents": bytes_["gradients"],
        f"inside the {type(action).__name__.lower()}": inside,
    }
    return AtPeak(
        action,
        program.places[action.about] if action.about < len(program.places) else None,
        balance.stored.total + balance.transients,
        {kind: size for kind, size in kinds.items() if size},
        tuple(held_during(program, balance)),
        tuple(_all_inside(program, balance, inside)) if inside > 0 else (),
        seconds,
    )


def _all_inside(program: Program, balance: Balance, inside: int) -> list[Buffer]:
    """The arrays that a stage holds inside, largest first, and the rest: what its compiler takes beyond them, such as copies
    of operands of a convolution."""
    arrays = _arrays_inside(program, balance.action, _kept_for(balance))
    rest = inside - sum(b.bytes for b in arrays)
    if not arrays or rest < WORTH * inside:
        return arrays
    about = balance.action.about
    return [*arrays, Buffer("transients", rest, "the rest, not told apart", stage=about, source=program.places[about])]


def _arrays_inside(program: Program, action: Action, keep: int | None) -> list[Buffer]:
    """The arrays that a stage holds inside, largest first, as `costs.estimated` counts them."""
    if not isinstance(action, (Forward, Backward)):
        return []
    kind = program.stages[action.stage].kind
    option = None if keep is None else kind.options[keep]
    part = kind.plain if option is None else option.partition
    if isinstance(action, Forward):
        operations = part.forward_run(unwanted=() if action.output else kind.outputs_kept).operations
        values = held_in_forward(kind, option, action.output)
    else:
        operations = part.backward_run.operations
        values = [] if option is None else held_in_backward(kind, option)
    makers = {v: op for op in operations for v in op.outputs}
    # Of loops, planned ones and those over chunks, what the one holds which holds most.
    loops = [op.known_cost for op in operations if op.known_cost is not None]
    fullest = max(loops, key=lambda cost: cost.bytes, default=None)
    held = [Inside(v, makers.get(v)) for v in values] + ([] if fullest is None else [*fullest.inside()])
    # A kind is shared with stages elsewhere, of other programs too: their lines are not this one's.
    own = {line for op in program.stages[action.stage].operations for line in lines_of(op)}
    buffers = [_buffer(program, array, action.stage, own) for array in held]
    return sorted((b for b in buffers if b.bytes), key=lambda b: -b.bytes)


def _buffer(program: Program, array: Inside, stage: int, own: Collection[SourceLine | None]) -> Buffer:
    v, maker, count, what = array
    source = within_layer(maker.source if maker and maker.source in own else None, program, stage)
    shape, size, what = tuple(v.aval.shape), program.target.bytes_of(v), what or made_by(maker)
    if count > 1:
        shape, size, what = (count, *shape), count * size, f"{what} in {count} steps"
    return Buffer("transients", size, what, shape, str(v.aval.dtype), stage, source)


def named_arrays(buffers: Iterable[Buffer], around: SourceLine | None = None) -> list[str]:
    """Buffers in words, the most bytes first: "2 x float32[8,16] of tanh at model.py:12 (1.0 KiB)".

    Args:
        buffers: those that are alike are named together.
        around: a line that need not be named.
    """
    groups: dict[tuple[object, ...], list[Buffer]] = {}
    for b in buffers:
        groups.setdefault((b.type, b.what, b.source), []).append(b)
    words: list[str] = []
    for group in sorted(groups.values(), key=lambda group: -sum(b.bytes for b in group)):
        first, many = group[0], f"{len(group)} x " if len(group) > 1 else ""
        made = first.made if many == "" else first.what
        what = made if first.shape is None else f"{first.type} of {made}"
        at = "" if first.source in (None, around) else f" at {first.source.place}"
        words.append(f"{many}{what}{at} ({format_bytes(sum(b.bytes for b in group))})")
    return words


def floor_of(program: Program, costs: ChainCosts, schedule: Schedule | None = None, everything: int | None = None) -> Floor:
    """The smallest peak of a program.

    Args:
        program, costs: the chain.
        schedule: that of the smallest peak; None: of the optimal policy.
        everything: bytes when everything is stored, where these are not of this chain.
    """
    if schedule is None:
        # Of a long chain it has millions of actions: its writer has counted them, and the peak comes early.
        writer = smallest_schedule(costs)
        worst = balance_at(costs, writer.actions, first_at(costs, writer.actions, writer.peak))
        peak = _described(program, worst, writer.time)
    else:
        peak = at_peak(program, costs, schedule)
    fastest = write_nested(costs, keep_fastest(costs)).time
    return Floor(peak, fastest, everything or everything_peak(costs))
