"""What differs between two plans, two timelines or two certificates: what appeared, what went, what grew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from ckptgrad.meters.buffers import Buffer
from ckptgrad.planning.schedule import Forward
from ckptgrad.results.plan import Plan
from ckptgrad.results.shown import Shown
from ckptgrad.results.step_certificate import StepCertificate
from ckptgrad.results.timeline import Timeline


@dataclass(frozen=True)
class Contents:
    """What a result consists of, as it is compared.

    Attributes:
        kind: "plan", "timeline" or "certificate".
        totals: bytes by name, the peak first.
        held: bytes of what is held at the peak, by name; things of the same name together.
        stages: of each stage where it comes from, and what happens to it.
        seconds: of a call, estimated; None where that is not known.
    """

    kind: str
    totals: Mapping[str, int]
    held: Mapping[str, int]
    stages: tuple[tuple[str, str], ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Change:
    """Bytes of one name before and after; 0 where it is not there."""

    name: str
    before: int
    after: int

    @property
    def by(self) -> int:
        """Bytes that it grew."""
        return self.after - self.before

    @property
    def what(self) -> str:
        """In a word: "appeared", "went", "grew", "shrank" or "stayed"."""
        if not self.by:
            return "stayed"
        if not self.before or not self.after:
            return "went" if self.before else "appeared"
        return "grew" if self.by > 0 else "shrank"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "before_bytes": self.before, "after_bytes": self.after, "change": self.what}


@dataclass(frozen=True)
class StageChange:
    """A stage to which something else happens: its number, where it comes from, and what happens, in words."""

    stage: int
    place: str
    before: str
    after: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"stage": self.stage, "place": self.place, "before": self.before, "after": self.after}


@dataclass(frozen=True, repr=False)
class Changes(Shown):
    """What differs between two results of one kind.

    Attributes:
        kind: "plan", "timeline" or "certificate".
        totals: the peak, what it consists of, and the arguments.
        held: what of the things that are held at the peak appeared, went, grew or shrank; the largest change first.
        stages: the stages to which something else happens, where both have as many.
        seconds: estimated, before and after; None where that is not known of both.
        stage_counts: the number of stages, before and after.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> def loss(ws, x):
        ...     for w in ws:
        ...         x = jnp.tanh(x @ w)
        ...     return jnp.sum(x)
        >>> plans = [cg.plan(loss, [jnp.eye(8)] * 6, jnp.ones((64, 8)), budget=budget) for budget in (None, "min")]
        >>> changes = cg.diff(*plans)
        >>> changes.totals[0].name, changes.totals[0].what, any(change.what == "went" for change in changes.held)
        ('peak', 'shrank', True)
    """

    kind: str
    totals: tuple[Change, ...]
    held: tuple[Change, ...]
    stages: tuple[StageChange, ...] = ()
    seconds: tuple[float, float] | None = None
    stage_counts: tuple[int, int] = (0, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        counts, seconds = self.stage_counts, self.seconds or (0.0, 0.0)
        return not (self.held or self.stages or any(t.by for t in self.totals)) and len({*counts}) == len({*seconds}) == 1

    def to_dict(self) -> dict[str, Any]:
        """The changes as plain data, in bytes and seconds."""
        return {
            "kind": self.kind,
            "totals": [change.to_dict() for change in self.totals],
            "held_at_peak": [change.to_dict() for change in self.held],
            "stages": [change.to_dict() for change in self.stages],
            "stage_counts": list(self.stage_counts),
            "seconds": None if self.seconds is None else list(self.seconds),
        }

    def to_json(self) -> str:
        """The changes as JSON."""
        return json.dumps(self.to_dict())


def changes(before: Contents, after: Contents) -> Changes:
    """What differs between the contents of two results of one kind."""
    pairs = zip(before.stages, after.stages, strict=False) if len(before.stages) == len(after.stages) else ()
    known = before.seconds is not None and after.seconds is not None
    held = [change for change in _changes(before.held, after.held) if change.by]
    return Changes(
        after.kind,
        tuple(_changes(before.totals, after.totals)),
        tuple(sorted(held, key=lambda change: -abs(change.by))),
        tuple(StageChange(i, place, was, now) for i, ((_, was), (place, now)) in enumerate(pairs) if was != now),
        (before.seconds or 0.0, after.seconds or 0.0) if known else None,
        (len(before.stages), len(after.stages)),
    )


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[Change]:
    return [Change(name, before.get(name, 0), after.get(name, 0)) for name in dict.fromkeys([*before, *after])]


@singledispatch
def contents(result: object) -> Contents | None:
    """What a result consists of; None for one that is not compared."""
    return None


@contents.register
def _(plan: Plan) -> Contents:
    program, kept = plan.program, plan.schedule.kept
    forwards = Counter(action.stage for action in plan.schedule if isinstance(action, Forward))
    stages: list[tuple[str, str]] = []
    for i, (place, cost) in enumerate(zip(program.places, plan.costs.stages, strict=True)):
        option = f"keeps {cost.options[kept[i]].name}" if i in kept else "keeps nothing"
        stages.append(("" if place is None else place.brief, f"{option}, {forwards[i]} x forward"))
    totals = {
        "peak": plan.peak_bytes,
        "temporaries": plan.temporary_bytes,
        "outputs": program.output_bytes,
        "gradients": program.gradient_bytes,
        **_of_arguments(program.argument_bytes),
    }
    peak = plan.at_peak
    held = _by_name(peak.held)
    inside = {f"{kind} of stage {peak.stage}": size for kind, size in peak.by_kind.items() if kind.startswith("inside")}
    return Contents("plan", totals, {**held, **inside}, tuple(stages), plan.seconds)


@contents.register
def _(timeline: Timeline) -> Contents:
    observed = {f"peak by {name}": reading.bytes for name, reading in timeline.readings.items() if reading.bytes is not None}
    totals = {"peak": timeline.peak_bytes, **observed, **_of_arguments(timeline.arguments)}
    return Contents("timeline", totals, _by_name(timeline.alive), seconds=timeline.moments[-1].end)


@contents.register
def _(certificate: StepCertificate) -> Contents:
    rows = {name.strip(): size for name, size, _ in certificate.rows() if size}
    return Contents("certificate", {"peak": certificate.peak_bytes}, rows)


def _of_arguments(arguments: Mapping[str, int]) -> dict[str, int]:
    return {f"argument {name}": size for name, size in arguments.items()}


def _by_name(buffers: Iterable[Buffer]) -> dict[str, int]:
    """Bytes of buffers that are alike but for their stage and layer: of one kind, type, primitive and line."""
    found: dict[str, int] = {}
    for b in buffers:
        place = "" if b.source is None else f" at {b.source.place}"
        # Cotangents of all boundaries are alike.
        what = "cotangent" if b.what.startswith("cotangent of") else b.what
        name = f"{b.kind}: {f'{b.type} of ' if b.type else ''}{what}{place}"
        found[name] = found.get(name, 0) + b.bytes
    return found
