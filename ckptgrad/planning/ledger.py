"""The model of memory: what is held while a schedule runs, what each action adds to it, and what it frees.

Written once.  Whatever plans reads bytes from here: the writer of schedules, the timeline that is predicted, the searches
and the policies; recurrences in compiled loops start from these numbers and are tested equal to them.  The referee
(`referee`) is a second, independent writing of the same sentences and shares no code with this one.
To add a kind of storage: a field of `Storage`, and the actions that change it.  To add an action: its change in
`Ledger.change`, and what is held during and after it in `Ledger.during` and `Ledger.take`.
Does not: check that an action may run; that is the referee's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.schedule import Action, Backward, Forward, Free, unknown_action


class Storage(NamedTuple):
    """Bytes by kind of storage.

    Attributes:
        results: what is held through the whole call.
        boundaries: values between stages, the chain's input and result among them.
        residuals: what forwards keep for backwards.
        gradients: cotangents of boundaries.
    """

    results: int = 0
    boundaries: int = 0
    residuals: int = 0
    gradients: int = 0

    @property
    def total(self) -> int:
        """Bytes of all kinds together."""
        return sum(self)

    def plus(self, made: Storage) -> Storage:
        """Kind by kind, with what is made."""
        return Storage(*(held + more for held, more in zip(self, made, strict=True)))

    def minus(self, freed: Storage) -> Storage:
        """Kind by kind, without what is freed."""
        return Storage(*(held - less for held, less in zip(self, freed, strict=True)))


class Change(NamedTuple):
    """What an action does to memory.

    At its worst moment all is held that was held before, what it makes, and its transients; when it is done, what it
    frees is gone.

    Attributes:
        made: bytes that it adds.
        transients: bytes of scratch; negative for a backward that overwrites what it reads.
        freed: bytes that it drops at its end.
        seconds: how long it takes.
    """

    made: Storage
    transients: int
    freed: Storage
    seconds: float

    @property
    def during(self) -> int:
        """Bytes at its worst moment, beyond those held before."""
        return sum(self.made) + self.transients

    @property
    def after(self) -> int:
        """Bytes that stay, beyond those held before; negative where more is freed than made."""
        return sum(self.made) - sum(self.freed)


class Held(NamedTuple):
    """What is held, by number: boundaries, stages' residuals with their save option, boundaries' cotangents."""

    boundaries: frozenset[int]
    residuals: dict[int, int]
    cotangents: tuple[int, ...]


class Moment(NamedTuple):
    """One action: what is held at its worst moment, by bytes and by number, and when it runs, in seconds."""

    action: Action
    stored: Storage
    transients: int
    held: Held
    start: float
    end: float


NOTHING = Storage()
# A named tuple's own constructor takes three times as long, which schedules of 10^5 stages feel.
_new = tuple.__new__


def opening(costs: ChainCosts) -> Storage:
    """Bytes held before the first action."""
    return Storage(costs.held_bytes, costs.boundary_bytes(0), 0, costs.cotangent_bytes(len(costs)))


def forward_change(stage: StageCost, keep: int | None = None, output: bool = True, replaces: bool = False) -> Change:
    """The change of a forward; `replaces` tells that its output is held already, and is replaced when it is done."""
    made = stage.boundary_bytes if output else 0
    if keep is None:
        residual, transients, seconds = 0, stage.forward_transient, stage.forward_time
    else:
        option = stage.options[keep]
        residual, transients, seconds = option.residual_bytes, option.forward_transient, option.forward_time
        if not output:
            transients += option.hidden_bytes
            seconds -= option.output_time
    if replaces:
        made, transients = 0, transients + made
    return _new(Change, (_new(Storage, (0, made, residual, 0)), transients, NOTHING, seconds))


def backward_change(stage: StageCost, keep: int, input_cotangent: int) -> Change:
    """The change of a backward from option `keep`, which makes a cotangent of `input_cotangent` bytes."""
    option = stage.options[keep]
    made = _new(Storage, (0, 0, 0, input_cotangent))
    freed = _new(Storage, (0, 0, option.residual_bytes, stage.cotangent_bytes))
    return _new(Change, (made, option.backward_transient, freed, option.backward_time))


def free_change(boundary_bytes: int) -> Change:
    """The change of dropping a boundary."""
    return _new(Change, (NOTHING, 0, _new(Storage, (0, boundary_bytes, 0, 0)), 0.0))


def kept_bytes(stage: StageCost, keep: int) -> int:
    """Bytes that stay from a forward that keeps option `keep` until the stage's backward, boundaries aside."""
    return forward_change(stage, keep, output=False).after


def sweep_bytes(costs: ChainCosts) -> list[int]:
    """Bytes during each stage's forward that keeps nothing: its input, its output and its transients."""
    return [costs.boundary_bytes(i) + forward_change(stage).during for i, stage in enumerate(costs.stages)]


class Ledger:
    """What a schedule holds between two actions: boundaries, residuals by save option, and one boundary's cotangent."""

    __slots__ = ("boundaries", "costs", "cotangent", "residuals")

    def __init__(self, costs: ChainCosts):
        self.costs = costs
        self.boundaries = {0}
        self.residuals: dict[int, int] = {}
        self.cotangent = len(costs)

    def take(self, action: Action) -> Change:
        """Run an action on paper: what it does to memory; from then on is held what it left.

        Raises:
            ScheduleError: it is not an action.
        """
        if isinstance(action, Forward):
            stage, keep, output = action.stage, action.keep, action.output
            replaces = output and stage + 1 in self.boundaries
            if keep is not None:
                self.residuals[stage] = keep
            if output:
                self.boundaries.add(stage + 1)
            return forward_change(self.costs.stages[stage], keep, output, replaces)
        if isinstance(action, Backward):
            stage = self.cotangent = action.stage
            keep = self.residuals.pop(stage)
            return backward_change(self.costs.stages[stage], keep, self.costs.cotangent_bytes(stage))
        if isinstance(action, Free):
            self.boundaries.discard(action.boundary)
            return free_change(self.costs.boundary_bytes(action.boundary))
        raise unknown_action(action)

    def during(self, action: Action) -> Held:
        """What is held at the worst moment of an action that runs now."""
        boundaries, residuals, cotangents = frozenset(self.boundaries), dict(self.residuals), (self.cotangent,)
        if isinstance(action, Forward):
            boundaries |= {action.stage + 1} if action.output else set()
            residuals |= {} if action.keep is None else {action.stage: action.keep}
        elif isinstance(action, Backward):
            cotangents += (action.stage,)
        return Held(boundaries, residuals, cotangents)


def follow(costs: ChainCosts, actions: Iterable[Action]) -> Iterator[Moment]:
    """The moments of a schedule, one per action."""
    ledger, stored, start = Ledger(costs), opening(costs), 0.0
    for action in actions:
        held = ledger.during(action)
        made, transients, freed, seconds = ledger.take(action)
        stored, end = stored.plus(made), start + seconds
        yield Moment(action, stored, transients, held, start, end)
        stored, start = stored.minus(freed), end
