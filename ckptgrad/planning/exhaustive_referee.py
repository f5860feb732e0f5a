"""The fastest schedule of all, nested or not, by Dijkstra's algorithm over everything a runtime could hold.

State: the boundaries held; the option whose residuals are held, stage by stage; the stage whose backward comes
next. Any forward, backward or free that fits the budget is a move. Boundaries that no move can read any more are freed at
once, and no forward starts at or behind them: holding on to them never helps.
Judges: the dynamic programme and the exhaustive search, of which it shares neither moves nor search. Bytes and seconds
of a move are the ledger's, which `referee` checks.
Regime: up to seven stages.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Change, backward_change, forward_change, free_change, opening

NOTHING = -1
T = TypeVar("T")


class _State(NamedTuple):
    """The boundaries held, the save option of each stage's residuals, and the number of stages still to go back."""

    boundaries: tuple[bool, ...]
    residuals: tuple[int, ...]
    following: int


class _Step(NamedTuple):
    """An action's seconds, and its bytes beyond those held before: at its worst moment, and once it is done."""

    seconds: float
    during: int
    after: int


def _step(change: Change) -> _Step:
    return _Step(change.seconds, change.during, change.after)


class _Moves:
    """All moves of a chain, with the bytes of each action read off the ledger once."""

    def __init__(self, costs: ChainCosts) -> None:
        self.n, stages = len(costs), costs.stages
        self.options = [stage.options for stage in stages]
        self.frees = [_step(free_change(costs.boundary_bytes(i))) for i in range(self.n + 1)]
        self.backwards = [
            [_step(backward_change(stage, k, costs.cotangent_bytes(i))) for k in range(len(stage.options))]
            for i, stage in enumerate(stages)
        ]
        # By whether the output is held already, and is replaced.
        self.plain = [[_step(forward_change(stage, None, True, held)) for held in (False, True)] for stage in stages]
        self.keeping = [
            [[_step(forward_change(stage, k, True, held)) for held in (False, True)] for k in range(len(stage.options))]
            for stage in stages
        ]
        self.keeping_alone = [
            [_step(forward_change(stage, k, output=False)) for k in range(len(stage.options))] for stage in stages
        ]

    def of(self, state: _State) -> Iterator[tuple[_Step, _State]]:
        boundaries, residuals, following = state
        for i in range(min(following + 1, self.n)):
            if boundaries[i]:
                yield self.frees[i], _State(_set(boundaries, i, False), residuals, following)
        yield from self._backward(state)
        for stage in range(following):
            if boundaries[stage]:
                yield from self._forwards(stage, state)

    def _backward(self, state: _State) -> Iterator[tuple[_Step, _State]]:
        boundaries, residuals, following = state
        stage = following - 1
        kept = residuals[stage]
        if kept == NOTHING:
            return
        option = self.options[stage][kept]
        if (boundaries[stage] or not option.reads_input) and (boundaries[following] or not option.reads_output):
            step = self.backwards[stage][kept]
            if following < self.n and boundaries[following]:
                boundaries = _set(boundaries, following, False)
                step = step._replace(after=step.after + self.frees[following].after)
            yield step, _State(boundaries, _set(residuals, stage, NOTHING), stage)

    def _forwards(self, stage: int, state: _State) -> Iterator[tuple[_Step, _State]]:
        boundaries, residuals, following = state
        held, produced = boundaries[stage + 1], _set(boundaries, stage + 1, True)
        yield self.plain[stage][held], _State(produced, residuals, following)
        if residuals[stage] != NOTHING:
            return
        for k, alone in enumerate(self.keeping_alone[stage]):
            kept = _set(residuals, stage, k)
            yield alone, _State(boundaries, kept, following)
            yield self.keeping[stage][k][held], _State(produced, kept, following)


def _set(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def least_time(costs: ChainCosts, budget: int) -> float | None:
    """Seconds of the fastest schedule within `budget` bytes, or None if there is none."""
    moves, n, live = _Moves(costs), len(costs), opening(costs).total
    start = _State((True,) + (False,) * n, (NOTHING,) * n, n)
    if live > budget:
        return None
    best: dict[_State, float] = {start: 0.0}
    queue: list[tuple[float, int, int, _State]] = [(0.0, 0, live, start)]
    done, ties = set[_State](), 0
    while queue:
        seconds, _, live, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        if state.following == 0 and state.boundaries[n]:
            return seconds
        for (action_seconds, during, after), reached in moves.of(state) if state.following else ():
            total = seconds + action_seconds
            if live + during <= budget and reached not in done and total < best.get(reached, float("inf")):
                best[reached] = total
                ties += 1
                heapq.heappush(queue, (total, ties, live + after, reached))
    return None
