"""The best of all schedules of a short chain, nested or not.

Algorithm: A* over what a runtime can hold: boundaries; the residuals' options, stage by stage; whose backward
is next. The order is by bytes over the budget first, seconds second, so that the
search ends with the fastest schedule within the budget, or else with one of the smallest peak.
Claim: optimal among all schedules under the additive cost model, unless `limit` states were not enough.
Lower bound on the seconds to come: every stage's cheapest backward, with the forward that it still needs; and for the
stages that are forwarded before the next backward, what keeping residuals within the budget or a forward more takes.
Regime: chains that are `searchable`; beyond, the nested schedules of `dynamic_programming` are close.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from ckptgrad.planning.bound import steps_of, ways_hull
from ckptgrad.planning.costs import ChainCosts, SaveOption
from ckptgrad.planning.schedule import Action, Backward, Forward, Free
from ckptgrad.planning.writer import ScheduleWriter

# Conceivable states of a chain that is searched for faster schedules; of these a fifth at most is visited, in 0.3 s.
MOST_STATES = 50_000

_NOT_YET = float("inf"), float("inf")


class _State(NamedTuple):
    boundaries: tuple[bool, ...]
    """Whether each is held."""
    options: tuple[int | None, ...]
    following: int
    """The number of stages whose backward is still to come."""


class _Move(NamedTuple):
    seconds: float
    peak: int
    state: _State
    live: int
    actions: tuple[Action, ...]


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
        limit: how many states to visit at most.

    Returns:
        The schedule, or None if there is none so fast, or the limit was reached.
    """
    n = len(costs)
    start = _State((True,) + (False,) * n, (None,) * n, n)
    live = costs.held_bytes + costs.boundary_bytes(0) + costs.cotangent_bytes(n)
    bound = _Bound(costs, budget if faster_than < float("inf") else None)
    best: dict[_State, tuple[int, float]] = {start: (max(0, live - budget), 0.0)}
    came: dict[_State, tuple[_State, tuple[Action, ...]]] = {}
    queue = [(max(0, live - budget), bound(start), 0, 0.0, live, start)]
    pushed, done = 0, set()
    while queue and len(done) < limit:
        over, _, _, seconds, live, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        if state.following == 0 and state.boundaries[n]:
            return _replay(costs, came, state)
        for move in _moves(costs, state, live):
            if move.state in done:
                continue
            value = max(over, move.peak - budget), seconds + move.seconds
            if value >= best.get(move.state, _NOT_YET):
                continue
            total = value[1] + bound(move.state)
            if total >= faster_than or (faster_than < float("inf") and value[0] > 0):
                continue
            best[move.state] = value
            came[move.state] = state, move.actions
            pushed += 1
            heapq.heappush(queue, (value[0], total, pushed, value[1], move.live, move.state))
    return None


def least_conceivable(costs: ChainCosts) -> int:
    """A lower bound on the peak bytes of all schedules: the neediest single action."""
    n, need = len(costs), 0
    cotangents = [costs.cotangent_bytes(i) for i in range(n + 1)]
    source = float("inf")
    for i, stage in enumerate(costs.stages):
        held, made = costs.boundary_bytes(i), stage.boundary_bytes
        lightest = min(stage.forward_transient, *(o.residual_bytes + o.forward_transient for o in stage.options))
        # The first time, before any backward, something must produce the output.
        need = max(need, held + made + lightest + cotangents[n])
        # While a later stage goes back, the one before it is held somehow.
        beside = 0 if i == 0 else min(source, *(o.residual_bytes for o in costs.stages[i - 1].options))
        need = max(need, min(_option_need(o, held, made, cotangents, i, int(beside)) for o in stage.options))
        source = min(source, held)
    return costs.held_bytes + need


def _option_need(option: SaveOption, held: int, made: int, cotangents: list[int], i: int, beside: int) -> int:
    forward = held + option.residual_bytes + option.forward_transient + min(cotangents[i + 1 :])
    backward = cotangents[i + 1] + cotangents[i] + option.residual_bytes + option.backward_transient + beside
    return max(forward, backward + held * option.reads_input + made * option.reads_output)


class _Bound:
    """A lower bound on the seconds from a state to the end.

    Up to the next backward a sweep runs from the last boundary held.  Each stage in it keeps residuals, all of them
    together within the budget, or runs again later: the relaxed knapsack of `bound`, for the stages of the sweep.
    """

    def __init__(self, costs: ChainCosts, budget: int | None):
        self.costs = costs
        self.budget = float("inf") if budget is None else budget - costs.held_bytes
        self.options = [stage.options for stage in costs.stages]
        self.full = [min(option.time for option in stage.options) for stage in costs.stages]
        self.alone = [min(option.time_alone for option in stage.options) for stage in costs.stages]
        self.forward = [min(s.forward_time, *(o.forward_time for o in s.options)) for s in costs.stages]
        self.smallest = [min(option.residual_bytes for option in stage.options) for stage in costs.stages]
        hulls = [ways_hull(stage, may_repeat=True) for stage in costs.stages]
        self.repeated = [hull[0][1] for hull in hulls]  # Without residuals.
        steps = [(gain, size, i) for i, hull in enumerate(hulls) for gain, size in steps_of(hull)]
        self.steps = sorted(steps, reverse=True)

    def __call__(self, state: _State) -> float:
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
                held += self.options[stage][k].residual_bytes
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


def _moves(costs: ChainCosts, state: _State, live: int) -> Iterator[_Move]:
    boundaries, options, following = state
    for i in range(len(costs)):
        if boundaries[i]:
            freed = _State(_with(boundaries, i, False), options, following)
            yield _Move(0.0, live, freed, live - costs.boundary_bytes(i), (Free(i),))
    if not following:
        return
    last = following - 1
    kept = options[last]
    if kept is not None:
        option = costs.stages[last].options[kept]
        reads = (boundaries[last] or not option.reads_input) and (boundaries[following] or not option.reads_output)
        if reads:
            # Nothing reads the boundaries behind a backward any more.
            done = [i for i in range(last + 1 if last else 0, len(costs)) if boundaries[i]]
            arriving = costs.cotangent_bytes(last)
            left = live + arriving - costs.stages[last].cotangent_bytes - option.residual_bytes
            left -= sum(costs.boundary_bytes(i) for i in done)
            rest = tuple(held and i not in done for i, held in enumerate(boundaries))
            after = _State(rest, _with(options, last, None), last)
            peak = live + arriving + option.backward_transient
            yield _Move(option.backward_time, peak, after, left, (Backward(last), *map(Free, done)))
    for i in range(following):
        if boundaries[i]:
            yield from _forwards(costs, state, live, i)


def _forwards(costs: ChainCosts, state: _State, live: int, i: int) -> Iterator[_Move]:
    boundaries, options, following = state
    stage = costs.stages[i]
    # An output that is held already is not made again.
    missing = not boundaries[i + 1]
    produced = _with(boundaries, i + 1, True)
    after = live + stage.boundary_bytes
    if missing:
        peak = after + stage.forward_transient
        yield _Move(stage.forward_time, peak, _State(produced, options, following), after, (Forward(i),))
    if options[i] is not None:
        return
    for k, option in enumerate(stage.options):
        kept = _with(options, i, k)
        more = option.residual_bytes + option.forward_transient
        without = _State(boundaries, kept, following)
        alone = live + more + option.hidden_bytes
        seconds = stage.forward_seconds(k, output=False)
        yield _Move(seconds, alone, without, live + option.residual_bytes, (Forward(i, k, False),))
        if missing:
            with_output = _State(produced, kept, following)
            yield _Move(option.forward_time, after + more, with_output, after + option.residual_bytes, (Forward(i, k),))


def _with(values: tuple, index: int, value: int | None) -> tuple:
    return (*values[:index], value, *values[index + 1 :])


def _replay(costs: ChainCosts, came: dict[_State, tuple[_State, tuple[Action, ...]]], state: _State) -> ScheduleWriter:
    actions: list[Action] = []
    while state in came:
        state, steps = came[state]
        actions.extend(reversed(steps))
    writer = ScheduleWriter(costs)
    writer.replay(reversed(actions))
    return writer
