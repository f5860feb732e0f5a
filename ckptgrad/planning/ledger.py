"""The model of memory: what is held while a schedule runs, what each action adds to it, and what it frees.

The only place where planning counts bytes: the schedule writer, the predicted timeline, the searches and the policies read
them here; the vectorised recurrences start from these numbers and are tested equal to them.  The referee
(`referee`) is a second, independent writing of the same sentences and shares no code with this one.
To add a kind of storage: a field of `Storage`, and the actions that change it.  To add an action: its change in
`Ledger.changes`, and what is held during it in `Ledger.during`.
Does not: check that an action may run; that is the referee's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.schedule import Action, Backward, Fetch, Forward, Free, Offload, unknown_action


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
    """What an action does to memory: bytes that it makes and frees by kind, its transients, and its seconds.

    At its worst moment all is held that was held before, what it makes, and its transients; when it is done, what it
    frees is gone.  Transients are scratch, negative for a backward that overwrites what it reads, and for a free: nothing
    runs meanwhile, and what a backward overwrote was not there beside what it made.  Flat, as a schedule makes up to
    millions of them.
    """

    boundaries: int
    residuals: int
    gradients: int
    transients: int
    freed_boundaries: int
    freed_residuals: int
    freed_gradients: int
    seconds: float

    @property
    def made(self) -> Storage:
        """Bytes that it makes."""
        return Storage(0, self.boundaries, self.residuals, self.gradients)

    @property
    def freed(self) -> Storage:
        """Bytes that it drops at its end."""
        return Storage(0, self.freed_boundaries, self.freed_residuals, self.freed_gradients)

    @property
    def during(self) -> int:
        """Bytes at its worst moment, beyond those held before."""
        return self.boundaries + self.residuals + self.gradients + self.transients

    @property
    def after(self) -> int:
        """Bytes that stay, beyond those held before; negative where more is freed than made."""
        return self.made.total - self.freed.total


class Held(NamedTuple):
    """What is held, by number: boundaries, stages' residuals with their save option, boundaries' cotangents."""

    boundaries: frozenset[int]
    residuals: dict[int, int]
    cotangents: tuple[int, ...]


class Balance(NamedTuple):
    """The balance of one action: what is held at its worst moment, in bytes and by number, and when it runs, in seconds."""

    action: Action
    stored: Storage
    transients: int
    held: Held
    start: float
    end: float


# A named tuple's own constructor takes three times as long.
_new = cast("Callable[[type[Change], tuple[int | float, ...]], Change]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]


def opening(costs: ChainCosts) -> Storage:
    """Bytes held before the first action."""
    return Storage(costs.held_bytes, costs.boundary_bytes(0), 0, costs.cotangent_bytes(len(costs)))


def forward_change(stage: StageCost, keep: int | None = None, output: bool = True, replaces: bool = False) -> Change:
    """The change of a forward; `replaces`: its output is held already, and is replaced when it is done."""
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
    return _new(Change, (made, residual, 0, transients, 0, 0, 0, seconds))


def backward_change(stage: StageCost, keep: int, input_cotangent: int) -> Change:
    """The change of a backward from option `keep`, which makes a cotangent of `input_cotangent` bytes."""
    option = stage.options[keep]
    residual, transients, seconds = option.residual_bytes, option.backward_transient, option.backward_time
    return _new(Change, (0, 0, input_cotangent, transients, 0, residual, stage.cotangent_bytes, seconds))


def fetch_change(boundary_bytes: int) -> Change:
    """The change of holding a boundary again; how long it takes is the tier's affair, beside computation."""
    return _new(Change, (boundary_bytes, 0, 0, 0, 0, 0, 0, 0.0))


def free_change(boundary_bytes: int) -> Change:
    """The change of dropping a boundary, which is gone at once."""
    return _new(Change, (0, 0, 0, -boundary_bytes, boundary_bytes, 0, 0, 0.0))


def offload_change(boundary_bytes: int) -> Change:
    """The change of dropping a boundary once a tier has a copy."""
    return _new(Change, (0, 0, 0, 0, boundary_bytes, 0, 0, 0.0))


def kept_bytes(stage: StageCost, keep: int) -> int:
    """Bytes that stay from a forward that keeps option `keep` until the stage's backward, boundaries aside."""
    return forward_change(stage, keep, output=False).after


def sweep_bytes(costs: ChainCosts) -> list[int]:
    """Bytes during each stage's forward that keeps nothing: its input, its output and its transients."""
    return [costs.boundary_bytes(i) + forward_change(stage).during for i, stage in enumerate(costs.stages)]


class Ledger:
    """What a schedule holds between two actions, and its books.

    Attributes:
        boundaries, residuals, cotangent: what is held by number, residuals with their save option.
        away: the boundaries of which a tier has a copy.
        live: bytes held.
        peak, peak_stage: bytes at the worst moment so far, and the stage of the first action that reached it, if any did.
        seconds: of the actions so far.
    """

    def __init__(self, costs: ChainCosts) -> None:
        self.costs = costs
        self.boundaries = {0}
        self.away: set[int] = set()
        self.residuals: dict[int, int] = {}
        self.cotangent = len(costs)
        self.live = opening(costs).total
        self.peak = 0
        self.peak_stage: int | None = None
        self.seconds = 0.0

    def changes(self, actions: Iterable[object]) -> Iterator[Change]:
        """Run actions on paper, one by one, and say what each does to memory.

        Raises:
            ScheduleError: one of them is not an action.
        """
        stages, costs, boundaries, residuals = self.costs.stages, self.costs, self.boundaries, self.residuals
        away = self.away
        for action in actions:
            if isinstance(action, Forward):
                stage, keep, output = action.stage, action.keep, action.output
                replaces = output and stage + 1 in boundaries
                if keep is not None:
                    residuals[stage] = keep
                if output:
                    boundaries.add(stage + 1)
                yield forward_change(stages[stage], keep, output, replaces)
            elif isinstance(action, Backward):
                stage = self.cotangent = action.stage
                yield backward_change(stages[stage], residuals.pop(stage), costs.cotangent_bytes(stage))
            elif isinstance(action, Free):
                away.discard(action.boundary)
                held = action.boundary in boundaries
                boundaries.discard(action.boundary)
                yield free_change(costs.boundary_bytes(action.boundary) if held else 0)
            elif isinstance(action, Offload):
                away.add(action.boundary)
                boundaries.discard(action.boundary)
                yield offload_change(costs.boundary_bytes(action.boundary))
            elif isinstance(action, Fetch):
                boundaries.add(action.boundary)
                yield fetch_change(costs.boundary_bytes(action.boundary))
            else:
                raise unknown_action(action)

    def run(self, actions: Sequence[Action]) -> None:
        """Run actions on paper, and keep the books."""
        live, peak, seconds = self.live, self.peak, self.seconds
        for action, change in zip(actions, self.changes(actions), strict=True):
            boundaries, residuals, gradients, transients, old_boundaries, old_residuals, old_gradients, spent = change
            live += boundaries + residuals + gradients
            if live + transients > peak:
                peak = live + transients
                self.peak_stage = min(action.about, len(self.costs) - 1)
            live -= old_boundaries + old_residuals + old_gradients
            seconds += spent
        self.live, self.peak, self.seconds = live, peak, seconds

    def sweep(self, first: int, end: int, during: int, worst: int, seconds: float) -> None:
        """Run the forwards of stages `first` to `end` - 1 that keep nothing, none of their outputs being held before.

        Args:
            first, end: the stages; the boundary of `end` stays, those between are freed on the way.
            during: most bytes beyond those held before.
            worst: the stage that takes them.
            seconds: of all.
        """
        if self.live + during > self.peak:
            self.peak, self.peak_stage = self.live + during, worst
        self.live += self.costs.boundary_bytes(end)
        self.seconds += seconds
        self.boundaries.add(end)

    def needs(self, action: Action) -> int:
        """Bytes that an action which runs now takes at its worst moment, beyond those that are held."""
        if isinstance(action, Forward):
            replaces = action.output and action.stage + 1 in self.boundaries
            return forward_change(self.costs.stages[action.stage], action.keep, action.output, replaces).during
        if isinstance(action, Backward):
            i = action.stage
            return backward_change(self.costs.stages[i], self.residuals[i], self.costs.cotangent_bytes(i)).during
        return self.costs.boundary_bytes(action.boundary) if isinstance(action, Fetch) else 0

    def during(self, action: Action) -> Held:
        """What is held at the worst moment of an action that runs now."""
        boundaries, residuals, cotangents = frozenset(self.boundaries), dict(self.residuals), (self.cotangent,)
        if isinstance(action, Forward):
            if action.output:
                boundaries |= {action.stage + 1}
            if action.keep is not None:
                residuals[action.stage] = action.keep
        elif isinstance(action, Backward):
            cotangents += (action.stage,)
        elif isinstance(action, Fetch):
            boundaries |= {action.boundary}
        return Held(boundaries, residuals, cotangents)


def balance_at(costs: ChainCosts, actions: Iterable[Action], index: int) -> Balance:
    """The balance of one action of a schedule, without those of the actions before it."""
    ledger, stored, start = Ledger(costs), opening(costs), 0.0
    rest = iter(actions)
    for change in ledger.changes(islice(rest, index)):
        stored, start = stored.plus(change.made).minus(change.freed), start + change.seconds
    action = next(rest)
    held = ledger.during(action)
    change = next(ledger.changes((action,)))
    return Balance(action, stored.plus(change.made), change.transients, held, start, start + change.seconds)


def first_at(costs: ChainCosts, actions: Iterable[Action], peak: int) -> int:
    """The index of the first action during which at least `peak` bytes are held; none of those behind it is looked at.

    Raises:
        ValueError: there is none.
    """
    live = opening(costs).total
    for index, change in enumerate(Ledger(costs).changes(actions)):
        if live + change.during >= peak:
            return index
        live += change.after
    raise ValueError(f"no action holds {peak} bytes")


def follow(costs: ChainCosts, actions: Iterable[Action]) -> Iterator[Balance]:
    """The balances of a schedule, one per action."""
    ledger, stored, start = Ledger(costs), opening(costs), 0.0
    for action in actions:
        held = ledger.during(action)
        change = next(ledger.changes((action,)))
        stored, end = stored.plus(change.made), start + change.seconds
        yield Balance(action, stored, change.transients, held, start, end)
        stored, start = stored.minus(change.freed), end
