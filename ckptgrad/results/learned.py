"""What the compiler took for plans of a chain, beside what was predicted, and what is expected of another plan from that.

Predictions are off by about the same for plans of one chain that hold about as much: by what a compiler keeps near, by
buffers of collectives, by how it packs.  So what it took is kept on disk, for the predictions of later plans.  What is
expected of a plan never rests on its own program: it is what was expected before that was compiled first.
Nothing here decides which plan is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Action
from ckptgrad.target.remember import recalled_rows, remember
from ckptgrad.target.target import Target

# Plans of one chain that are kept on disk: a later one takes the place of one whose number ends in the same digits.
MOST_KEPT = 64


@dataclass(frozen=True)
class Taken:
    """What a compiler took for a plan.

    Attributes:
        plan: the number of the plan (`number_of`).
        predicted: bytes that it holds by its costs.
        expected: bytes that were expected before it was compiled.
        taken: bytes that the compiler allocates.
        others: how many other plans had been compiled before.
    """

    plan: int
    predicted: int
    expected: int
    taken: int
    others: int


@dataclass(frozen=True)
class Expected:
    """What is expected of a plan: bytes, and of how many other plans it was known what they took."""

    bytes: int
    others: int


_NAMES = tuple(field.name for field in fields(Taken))


class Learned:
    """What the compiler took for plans of one chain.

    Args:
        target: what they are compiled for.
        text: what tells it from other chains (`text_of`).
        on_disk: whether what other processes learned counts.
    """

    def __init__(self, target: Target, text: str, on_disk: bool) -> None:
        self._target, self._text, self._on_disk = target, text, on_disk
        self._known: dict[int, Taken] = {}
        if on_disk:
            rows = recalled_rows(target, [_quantities(k) for k in range(MOST_KEPT)], self._text)
            found = (Taken(*map(int, row)) for row in rows if row is not None)
            self._known = {taken.plan: taken for taken in found}

    def expected(self, plan: int, predicted: int) -> Expected:
        """What is expected of a plan; of one that was compiled already, what was expected before."""
        known = self._known.get(plan)
        if known is not None and known.predicted == predicted:
            return Expected(known.expected, known.others)
        others = [taken for taken in self._known.values() if taken.plan != plan]
        return Expected(_between(predicted, others), len(others))

    def add(self, plan: int, predicted: int, taken: int) -> None:
        """What the compiler took for a plan, of which nothing was known yet."""
        known = self._known.get(plan)
        if known is not None and (known.predicted, known.taken) == (predicted, taken):
            return
        expected = self.expected(plan, predicted)
        self._known[plan] = row = Taken(plan, predicted, expected.bytes, taken, expected.others)
        if self._on_disk:
            remember(self._target, _quantities(plan % MOST_KEPT), self._text, astuple(row))


def text_of(costs: ChainCosts, how: str) -> str:
    """What tells a chain from others: the bytes of its stages, by which its plans are predicted, and `how` they run.

    Seconds, which may differ from day to day, are left out.
    """
    digest = hashlib.sha256(f"{how} {costs.input_bytes} {costs.input_cotangent_bytes} {costs.held_bytes}".encode())
    seen: dict[int, bytes] = {}
    for stage in costs.stages:
        if id(stage) not in seen:
            options = [
                (o.residual_bytes, o.reads_input, o.reads_output, o.forward_transient, o.backward_transient, o.hidden_bytes)
                for o in stage.options
            ]
            held = stage.boundary_bytes, stage.cotangent_bytes, stage.forward_transient
            seen[id(stage)] = repr((held, options)).encode()
        digest.update(seen[id(stage)])
    return digest.hexdigest()


def number_of(actions: Iterable[Sequence[Action]]) -> int:
    """The number of what is planned, by its actions."""
    text = "; ".join(" ".join(map(str, plan)) for plan in actions)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _between(predicted: int, others: Sequence[Taken]) -> int:
    """What is expected of a prediction: on the line between those of its neighbours of which is known what they took.

    Beyond them the line of the last two, no steeper than predictions and not downwards, is followed as far again as these
    are apart: further away, as much more or less is expected than predicted as there.
    """
    totals: dict[int, list[int]] = {}
    for other in others:
        totals.setdefault(other.predicted, []).append(other.taken)
    points = sorted((p, sum(taken) / len(taken)) for p, taken in totals.items())
    if not points:
        return predicted
    above = next((k for k, (p, _) in enumerate(points) if p >= predicted), len(points))
    if 0 < above < len(points):
        (p, taken), (q, more) = points[above - 1], points[above]
        return round(taken + (more - taken) * (predicted - p) / (q - p))
    nearest = points[:2] if above == 0 else points[:-3:-1]
    return max(0, round(_beyond(predicted, *nearest[0], *nearest[-1])))


def _beyond(predicted: int, near: int, taken: float, far: int, more: float) -> float:
    """As `_between`, beyond the nearest prediction, where `taken` was; the one before took `more`, if it is another one."""
    apart = predicted - near
    along = max(-abs(far - near), min(abs(far - near), apart))
    slope = min(1.0, max(0.0, (more - taken) / (far - near))) if far != near else 1.0
    return taken + slope * along + (apart - along)


def _quantities(place: int) -> list[str]:
    return [f"{name} of plan {place} in a chain" for name in _NAMES]
