"""The best of all schedules of a short chain, nested or not.

Algorithm: A* over what a runtime can hold: the boundaries, each stage's residuals by their save option, and the stage
whose backward is next. The order is by bytes over the budget first, by seconds second, so that the search ends with
the fastest schedule within the budget, or else with one of the smallest peak.
Claim: optimal among all schedules under the additive cost model, unless `limit` states were not enough.
Lower bound on the seconds to come: every stage's cheapest backward, with the forward that it still needs; and for the
stages that are forwarded before the next backward, the least that keeping residuals within the budget, or running
forward once more, takes.
Regime: chains that are `searchable`; beyond, the nested schedules of `dynamic_programming` are close.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import prod
from typing import NamedTuple, TypeVar

from ckptgrad.planning.bound import steps_of, ways_hull
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import Change, backward_change, forward_change, free_change, kept_bytes, opening
from ckptgrad.planning.schedule import Action, Backward, Forward, Free
from ckptgrad.planning.writer import ScheduleWriter

# Conceivable states of a chain that is searched for faster schedules; at most a fifth of them is visited, in 0.3 s.
MOST_STATES = 50_000

_NOT_YET = float("inf"), float("inf")

T = TypeVar("T")


class State(NamedTuple):
    """What a runtime holds between two actions.

    Attributes:
        boundaries: for each boundary, whether it is held.
        options: for each stage, the save option whose residuals are held; None where none are.
        following: the number of stages whose backward is still to come.
    """

    boundaries: tuple[bool, ...]
    options: tuple[int | None, ...]
    following: int


class _Step(NamedTuple):
    """Actions taken at once: their seconds, and bytes beyond those held before, at the worst moment and at the end."""

    actions: tuple[Action, ...]
    seconds: float
    during: int
    after: int


def _step(action: Action, change: Change) -> _Step:
    return _Step((action,), change.seconds, change.during, change.after)


def searchable(costs: ChainCosts) -> bool:
    """Whether all schedules of a chain can be searched for the fastest.

    Of the chain alone, not of the budget: with a search that is given up at some budgets and not at others, more memory
    could give a slower plan.
    """
    return len(costs) * prod(2 * (1 + len(stage.options)) for stage in costs.stages) <= MOST_STATES


def search(
    costs: ChainCosts, budget: int, *, faster_than: float = float("inf"), limit: float = float("inf")
) -> ScheduleWriter | None:
    """The fastest schedule within `budget` bytes; if none is within, one of the smallest peak.

    Args:
        costs: a chain.
        budget: bytes, `held_bytes` included.
        faster_than: seconds; look only for schedules within the budget that take less.
        limit: visit at most this many states.

    Returns:
        The schedule, or None if there is none so fast, or the limit was reached.
    """
    n = len(costs)
    start = State((True,) + (False,) * n, (None,) * n, n)
    live, moves = opening(costs).total, _Moves(costs)
    bound = Bound(costs, budget if faster_than < float("inf") else None)
    best: dict[State, tuple[int, float]] = {start: (max(0, live - budget), 0.0)}
    came: dict[State, tuple[State, tuple[Action, ...]]] = {}
    queue = [(max(0, live - budget), bound(start), 0, 0.0, live, start)]
    pushed, done = 0, set[State]()
    while queue and len(done) < limit:
        over, _, _, seconds, live, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        if state.following == 0 and state.boundaries[n]:
            return _replay(costs, came, state)
        for (actions, their_seconds, during, after), reached in moves.of(state):
            if reached in done:
                continue
            value = max(over, live + during - budget), seconds + their_seconds
            if value >= best.get(reached, _NOT_YET):
                continue
            total = value[1] + bound(reached)
            if total >= faster_than or (faster_than < float("inf") and value[0] > 0):
                continue
            best[reached] = value
            came[reached] = state, actions
            pushed += 1
            heapq.heappush(queue, (value[0], total, pushed, value[1], live + after, reached))
    return None


def least_conceivable(costs: ChainCosts) -> int:
    """A lower bound on the peak bytes of all schedules: the neediest single action."""
    n, need = len(costs), 0
    cotangents = [costs.cotangent_bytes(i) for i in range(n + 1)]
    source = float("inf")
    for i, stage in enumerate(costs.stages):
        held, options = costs.boundary_bytes(i), range(len(stage.options))
        # The first time, before any backward, something must produce the output.
        first = min(forward_change(stage, k).during for k in (None, *options))
        need = max(need, held + first + cotangents[n])
        # While a later stage goes back, the one before it is held somehow.
        before = costs.stages[i - 1]
        beside = 0 if i == 0 else min(source, *(kept_bytes(before, k) for k in range(len(before.options))))
        need = max(need, min(_option_need(stage, k, held, cotangents, i, int(beside)) for k in options))
        source = min(source, held)
    return costs.held_bytes + need


def _option_need(stage: StageCost, keep: int, held: int, cotangents: list[int], i: int, beside: int) -> int:
    """Bytes that stage i needs at least to go back from an option, its input being `held` bytes."""
    option, change = stage.options[keep], forward_change(stage, keep)
    without_output = change.residuals + change.transients
    forward = held + without_output + min(cotangents[i + 1 :])
    back = backward_change(stage, keep, cotangents[i])
    backward = back.freed.total + back.during + beside
    return max(forward, backward + held * option.reads_input + stage.boundary_bytes * option.reads_output)


class Bound:
    """A lower bound on the seconds from a state to the end.

    Up to the next backward a sweep runs from the last boundary held.  Each stage in it keeps residuals, all of them
    together within the budget, or runs again later: the relaxed knapsack of `bound`, for the stages of the sweep.
    """

    def __init__(self, costs: ChainCosts, budget: int | None) -> None:
        self.costs = costs
        self.budget = float("inf") if budget is None else budget - costs.held_bytes
        self.options = [stage.options for stage in costs.stages]
        self.full = [min(option.time for option in stage.options) for stage in costs.stages]
        self.alone = [min(option.time_alone for option in stage.options) for stage in costs.stages]
        self.forward = [min(s.forward_time, *(o.forward_time for o in s.options)) for s in costs.stages]
        self.kept = [[kept_bytes(stage, k) for k in range(len(stage.options))] for stage in costs.stages]
        self.smallest = [min(kept) for kept in self.kept]
        hulls = [ways_hull(stage, may_repeat=True) for stage in costs.stages]
        self.repeated = [hull[0][1] for hull in hulls]  # Without residuals.
        steps = [(gain, size, i) for i, hull in enumerate(hulls) for gain, size in steps_of(hull)]
        self.steps = sorted(steps, reverse=True)

    def __call__(self, state: State) -> float:
        boundaries, options, following = state
        if not following:
            return 0.0
        if None in options[:following] and not any(boundaries[: options.index(None) + 1]):
            return float("inf")
        total, held, last = 0.0, 0, following - 1
        start = last
        if options[last] is None:
            while not boundaries[start]:
                start -= 1
        for stage, k in enumerate(options[:following]):
            if k is not None:
                total += self.options[stage][k].backward_time + (self.forward[stage] if start <= stage < last else 0.0)
                held += self.kept[stage][k]
            elif start <= stage < last:
                total += self.repeated[stage]
            elif stage == last:
                total += self.alone[stage] if boundaries[following] or following < len(options) else self.full[stage]
                held += self.smallest[stage]
            else:
                total += self.alone[stage]
        room = self.budget - self.costs.cotangent_bytes(following) - held
        for gain, size, stage in self.steps if start < last else ():
            if room <= 0:
                break
            if start <= stage < last and options[stage] is None:
                total -= gain * min(size, room)
                room -= size
        return total


class _Moves:
    """All moves of a chain, with the bytes and seconds of each action read off the ledger once."""

    def __init__(self, costs: ChainCosts) -> None:
        self.n, stages = len(costs), costs.stages
        self.options = [stage.options for stage in stages]
        self.frees = [_step(Free(i), free_change(costs.boundary_bytes(i))) for i in range(self.n)]
        self.plain = [_step(Forward(i), forward_change(stage)) for i, stage in enumerate(stages)]
        # Without its output, with it.
        self.keeping = [
            [
                [_step(Forward(i, k, output), forward_change(stage, k, output)) for output in (False, True)]
                for k in range(len(stage.options))
            ]
            for i, stage in enumerate(stages)
        ]
        self.backwards = [
            [_step(Backward(i), backward_change(stage, k, costs.cotangent_bytes(i))) for k in range(len(stage.options))]
            for i, stage in enumerate(stages)
        ]

    def of(self, state: State) -> Iterator[tuple[_Step, State]]:
        boundaries, options, following = state
        for i in range(self.n):
            if boundaries[i]:
                yield self.frees[i], State(_with(boundaries, i, False), options, following)
        if not following:
            return
        yield from self._backward(state)
        for i in range(following):
            if boundaries[i]:
                yield from self._forwards(state, i)

    def _backward(self, state: State) -> Iterator[tuple[_Step, State]]:
        boundaries, options, following = state
        last = following - 1
        kept = options[last]
        if kept is None:
            return
        option = self.options[last][kept]
        if (boundaries[last] or not option.reads_input) and (boundaries[following] or not option.reads_output):
            # Nothing reads the boundaries behind a backward any more.
            done = [i for i in range(last + 1 if last else 0, self.n) if boundaries[i]]
            rest = tuple(held and i not in done for i, held in enumerate(boundaries))
            actions, seconds, during, after = self.backwards[last][kept]
            actions += tuple(Free(i) for i in done)
            after += sum(self.frees[i].after for i in done)
            yield _Step(actions, seconds, during, after), State(rest, _with(options, last, None), last)

    def _forwards(self, state: State, i: int) -> Iterator[tuple[_Step, State]]:
        boundaries, options, following = state
        # An output that is held already is not made again.
        missing = not boundaries[i + 1]
        produced = _with(boundaries, i + 1, True)
        if missing:
            yield self.plain[i], State(produced, options, following)
        if options[i] is not None:
            return
        for k, (alone, with_output) in enumerate(self.keeping[i]):
            kept = _with(options, i, k)
            yield alone, State(boundaries, kept, following)
            if missing:
                yield with_output, State(produced, kept, following)


def _with(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _replay(costs: ChainCosts, came: dict[State, tuple[State, tuple[Action, ...]]], state: State) -> ScheduleWriter:
    actions: list[Action] = []
    while state in came:
        state, steps = came[state]
        actions.extend(reversed(steps))
    writer = ScheduleWriter(costs)
    writer.replay(reversed(actions))
    return writer
