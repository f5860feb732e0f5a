"""The memory of one gradient over time: predicted, and as meters observed it, on the same axes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ckptgrad.chain.program import Program
from ckptgrad.errors import OptionError
from ckptgrad.meters.buffers import Buffer
from ckptgrad.meters.meter import Reading
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.policy import get_policy
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.at_peak import arrays_inside
from ckptgrad.results.lives import Life, lives
from ckptgrad.results.over_chunks import Chunks
from ckptgrad.results.predicted import Moment, moments
from ckptgrad.results.shown import Shown
from ckptgrad.results.trace import buffers_csv, moments_csv, trace_events
from ckptgrad.target.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# The name of the reference that every plan has.
STORED = "no budget (store_all)"


class Part(NamedTuple):
    """A moment, by its place, or a step of a loop in it: when, as shares of the estimated time, and what is held by kind."""

    moment: int
    start: float
    end: float
    bytes: Mapping[str, int]


@dataclass(frozen=True, repr=False)
class Timeline(Shown):
    """Live bytes beyond the arguments over the course of a gradient.

    Attributes:
        name: the name of the function.
        moments: predicted, one per action of the schedule, split by kind of buffer (`meters.buffers.KINDS`).
        lives: predicted: every buffer, with the moments during which it is held.
        budget: bytes beyond the arguments, or None.
        readings: what each meter observed, by the meter's name: a peak and, where the meter can see them, the curve and
            the buffers alive at its peak.
        budget_source: what the budget is taken from, in words, where it was asked for as "auto" or as a share.
        least: whether the smallest plan was asked for, with no number of bytes to keep.
        devices: the number of devices; all bytes are those of one of them.
        target: what it is for.
        arguments: the bytes of each argument, which are held beside all else.
        inside: the arrays that the stage holds inside at the peak, largest first: an estimate of what its transients are.
        advise: computes the advice on its plan, which pages end with; None for one without a plan.
        references: what others hold over their own time, by name: everything stored, or `jax.grad` (`beside`).

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> course = cg.timeline(lambda x: jnp.sum(jnp.sin(x) ** 2), jnp.ones(1000))
        >>> course.peak_bytes == max(moment.total for moment in course.moments)
        True
        >>> course.alive[0].bytes
        4000
    """

    name: str
    moments: tuple[Moment, ...]
    lives: tuple[Life, ...] = ()
    budget: int | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict[str, Reading])
    least: bool = False
    devices: int = 1
    target: Target | None = None
    arguments: Mapping[str, int] = field(default_factory=dict[str, int])
    references: Mapping[str, Reading] = field(default_factory=dict[str, Reading])
    inside: tuple[Buffer, ...] = ()
    advise: Callable[[], tuple[Advice, ...]] | None = field(default=None, compare=False)
    budget_source: str = ""

    @property
    def chunks(self) -> dict[int, Chunks]:
        """The stages that run over chunks: how many, of how many entries of which axis; those of the stage's last action."""
        found = {m.stage: m.chunks for m in self.moments if m.chunks is not None}
        return {stage: found[stage] for stage in sorted(found)}

    @property
    def peak_at(self) -> int:
        """The index of the first moment that holds the most bytes."""
        totals = [m.total for m in self.moments]
        return totals.index(max(totals))

    @property
    def peak_bytes(self) -> int:
        """Predicted bytes beyond the arguments at the peak."""
        return self.moments[self.peak_at].total

    @property
    def alive(self) -> tuple[Buffer, ...]:
        """Predicted: the buffers held at the peak, largest first."""
        return self.alive_during(self.peak_at)

    def alive_during(self, index: int) -> tuple[Buffer, ...]:
        """Predicted: the buffers held during the moment with that index, largest first."""
        held = (life.buffer for life in self.lives if life.first <= index <= life.last)
        return tuple(sorted(held, key=lambda b: -b.bytes))

    @property
    def progress(self) -> list[tuple[float, float]]:
        """Where each moment begins and ends, as shares of the estimated time; all equally long if none takes any time."""
        end = self.moments[-1].end
        if end <= 0:
            n = len(self.moments)
            return [(i / n, (i + 1) / n) for i in range(n)]
        return [(m.start / end, m.end / end) for m in self.moments]

    @property
    def course(self) -> list[tuple[float, float, Mapping[str, int]]]:
        """The parts without the moments to which they belong: where each begins and ends, and what is held, by kind."""
        return [(part.start, part.end, part.bytes) for part in self.parts]

    @property
    def parts(self) -> list[Part]:
        """The moments, and inside them the steps of loops, in order."""
        parts: list[Part] = []
        whole = self.moments[-1].end
        for k, (moment, (start, end)) in enumerate(zip(self.moments, self.progress, strict=True)):
            if not moment.inside or whole <= 0:
                parts.append(Part(k, start, end, moment.bytes))
                continue
            for until, transients in moment.inside:
                stop = end if until == moment.inside[-1][0] else min(end, until / whole)
                parts.append(Part(k, start, stop, {**moment.bytes, "transients": transients}))
                start = stop
        return parts

    @property
    def worst(self) -> tuple[float, float]:
        """From when to when the most bytes are held, as shares of the estimated time: a moment, or a part of its loop."""
        start, end, _ = max(self.course, key=lambda part: sum(part[2].values()))
        return start, end

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; bytes, and times as shares of the whole."""
        return {
            "function": self.name,
            "budget_bytes": self.budget,
            "budget_source": self.budget_source,
            "devices": self.devices,
            "peak_bytes": self.peak_bytes,
            "argument_bytes": dict(self.arguments),
            "total_bytes": self.peak_bytes + sum(self.arguments.values()),
            "peak_at": self.moments[self.peak_at].action,
            "moments": [
                {
                    "action": m.action,
                    "stage": m.stage,
                    "start": a,
                    "end": b,
                    "bytes": dict(m.bytes),
                    "total": m.total,
                    "chunks": m.chunks and asdict(m.chunks),
                }
                for m, (a, b) in zip(self.moments, self.progress, strict=True)
            ],
            "course": [{"start": a, "end": b, "bytes": dict(held)} for a, b, held in self.course],
            "alive_at_peak": [b.to_dict() for b in self.alive],
            "inside_at_peak": [b.to_dict() for b in self.inside],
            "references": {name: reading.to_dict() for name, reading in self.references.items()},
            "readings": {name: reading.to_dict() for name, reading in self.readings.items()},
        }

    def to_perfetto(self) -> str:
        """JSON of trace events, which ui.perfetto.dev opens: counters by kind, slices by stage and by buffer.

        Times are estimated, in microseconds.
        """
        return json.dumps(trace_events(self))

    def to_csv(self, rows: Literal["moments", "buffers"] = "moments") -> str:
        """CSV with a heading: a row for each moment, or for each buffer with when it is held.

        Args:
            rows: "moments": times as shares of the whole, and bytes by kind; "buffers".

        Raises:
            OptionError: there are no such rows.
        """
        if rows not in ("moments", "buffers"):
            raise OptionError(f"there are no rows {rows!r} of a timeline; there are 'moments' and 'buffers'")
        return moments_csv(self) if rows == "moments" else buffers_csv(self)

    def beside(self, **others: Reading) -> Timeline:
        """The same timeline with other curves behind it instead of its references, such as that of `jax.grad`."""
        return replace(self, references=others)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Live bytes as areas and lines, on the given axes or a new figure; needs matplotlib."""
        return self.figures()["timeline"](ax)


def predict(name: str, program: Program, costs: ChainCosts, schedule: Schedule, budget: int | None) -> Timeline:
    """The predicted timeline of a schedule."""
    found = tuple(moments(program, costs, schedule))
    timeline = Timeline(
        name,
        found,
        tuple(lives(program, costs, schedule, found)),
        budget,
        devices=program.devices,
        target=program.target,
        arguments=program.argument_bytes,
        references=_everything_stored(costs, schedule),
    )
    return replace(timeline, inside=arrays_inside(program, costs, schedule, timeline.peak_at))


def _everything_stored(costs: ChainCosts, schedule: Schedule) -> dict[str, Reading]:
    """What a schedule that stores everything would hold, if this one is another."""
    everything = get_policy("store_all")(costs, None)
    if everything.actions == schedule.actions:
        return {}
    ledger = Ledger(costs)
    points: list[tuple[float, int]] = []
    seconds = 0.0
    held = ledger.live
    for change in ledger.changes(everything):
        points += [(seconds, held + change.during), (seconds + change.seconds, held + change.during)]
        seconds += change.seconds
        held += change.after
    curve = tuple((time / seconds if seconds else 0.0, held) for time, held in points)
    return {STORED: Reading(max(held for _, held in points), curve=curve)}


def places(timeline: Timeline, schedule: Schedule) -> Sequence[tuple[str | None, float, float]]:
    """For each action its named scope, and where it begins and ends, as shares of the whole time."""
    return [(action.scope, *place) for action, place in zip(schedule, timeline.progress, strict=True)]
