"""The memory of one gradient over time: predicted, and as meters observed it, on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckptgrad.chain.program import Program
from ckptgrad.meters.buffers import Buffer
from ckptgrad.meters.meter import Reading
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.lives import Life, lives
from ckptgrad.results.predicted import Moment, moments
from ckptgrad.results.shown import Shown
from ckptgrad.target.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        least: whether the smallest plan was asked for, with no number of bytes to keep.
        devices: the number of devices; all bytes are those of one of them.
        target: what it is for.
        arguments: the bytes of each argument, which are held beside all else.

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
        """The moments, and inside them the steps of loops: where each part begins and ends, as shares of the estimated time,
        and what is held, by kind.
        """
        parts: list[tuple[float, float, Mapping[str, int]]] = []
        whole = self.moments[-1].end
        for moment, (start, end) in zip(self.moments, self.progress, strict=True):
            if not moment.inside or whole <= 0:
                parts.append((start, end, moment.bytes))
                continue
            for until, transients in moment.inside:
                stop = end if until == moment.inside[-1][0] else min(end, until / whole)
                parts.append((start, stop, {**moment.bytes, "transients": transients}))
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
            "devices": self.devices,
            "peak_bytes": self.peak_bytes,
            "argument_bytes": dict(self.arguments),
            "device_bytes": self.peak_bytes + sum(self.arguments.values()),
            "peak_at": self.moments[self.peak_at].action,
            "moments": [
                {"action": m.action, "stage": m.stage, "start": a, "end": b, "bytes": dict(m.bytes), "total": m.total}
                for m, (a, b) in zip(self.moments, self.progress, strict=True)
            ],
            "course": [{"start": a, "end": b, "bytes": dict(held)} for a, b, held in self.course],
            "alive_at_peak": [b.to_dict() for b in self.alive],
            "readings": {name: reading.to_dict() for name, reading in self.readings.items()},
        }

    def plot(self, ax: Axes | None = None) -> Figure:
        """Live bytes as areas and lines, on the given axes or a new figure; needs matplotlib."""
        return self.figures()["timeline"](ax)


def predict(name: str, program: Program, costs: ChainCosts, schedule: Schedule, budget: int | None) -> Timeline:
    """The predicted timeline of a schedule."""
    found = tuple(moments(program, costs, schedule))
    return Timeline(
        name,
        found,
        tuple(lives(program, costs, schedule, found)),
        budget,
        devices=program.devices,
        target=program.target,
        arguments=program.argument_bytes,
    )


def places(timeline: Timeline, schedule: Schedule) -> Sequence[tuple[str | None, float, float]]:
    """For each action its named scope, and where it begins and ends, as shares of the whole time."""
    return [(action.scope, *place) for action, place in zip(schedule, timeline.progress, strict=True)]
