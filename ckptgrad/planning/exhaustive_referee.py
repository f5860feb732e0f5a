"""The fastest schedule of all, nested or not, by Dijkstra's algorithm over everything a runtime could hold.

State: the boundaries held; the option whose residuals are held, stage by stage; the stage whose backward comes
next. Any forward, backward or free that fits the budget is a move. Written from the sentences of the actions,
apart from planner and referee. Regime: up to seven stages. Boundaries that no move can read any more are freed
at once, and no forward starts at or behind them: holding on to them never helps.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from ckptgrad.planning.costs import ChainCosts

NOTHING = -1


class _Moves:
    def __init__(self, costs: ChainCosts, budget: int):
        self.costs, self.budget, self.n = costs, budget, len(costs)
        self.sizes = [costs.boundary_bytes(i) for i in range(self.n + 1)]
        self.cotangents = [costs.cotangent_bytes(i) for i in range(self.n + 1)]

    def held(self, boundaries: tuple, residuals: tuple, following: int) -> int:
        total = self.costs.held_bytes + self.cotangents[following]
        total += sum(size for size, held in zip(self.sizes, boundaries, strict=True) if held)
        for stage, k in enumerate(residuals):
            if k != NOTHING:
                total += self.costs.stages[stage].options[k].residual_bytes
        return total

    def from_state(self, state: tuple) -> Iterator[tuple[float, tuple]]:
        boundaries, residuals, following = state
        live = self.held(boundaries, residuals, following)
        yield from self._frees(boundaries, residuals, following)
        yield from self._backward(boundaries, residuals, following, live)
        for stage in range(following):
            if boundaries[stage]:
                yield from self._forwards(stage, boundaries, residuals, following, live)

    def _frees(self, boundaries, residuals, following):
        for i in range(min(following + 1, self.n)):
            if boundaries[i]:
                yield 0.0, (_set(boundaries, i, False), residuals, following)

    def _backward(self, boundaries, residuals, following, live):
        stage = following - 1
        if residuals[stage] == NOTHING:
            return
        option = self.costs.stages[stage].options[residuals[stage]]
        readable = (boundaries[stage] or not option.reads_input) and (boundaries[stage + 1] or not option.reads_output)
        if readable and live + self.cotangents[stage] + option.backward_transient <= self.budget:
            if following < self.n:
                boundaries = _set(boundaries, following, False)
            yield option.backward_time, (boundaries, _set(residuals, stage, NOTHING), stage)

    def _forwards(self, stage, boundaries, residuals, following, live):
        cost = self.costs.stages[stage]
        produced = _set(boundaries, stage + 1, True)
        if live + self.sizes[stage + 1] + cost.forward_transient <= self.budget:
            yield cost.forward_time, (produced, residuals, following)
        if residuals[stage] != NOTHING:
            return
        for k, option in enumerate(cost.options):
            kept = _set(residuals, stage, k)
            during = live + option.residual_bytes + option.forward_transient
            if during + option.hidden_bytes <= self.budget:
                yield option.forward_time - option.output_time, (boundaries, kept, following)
            if during + self.sizes[stage + 1] <= self.budget:
                yield option.forward_time, (produced, kept, following)


def _set(values: tuple, index: int, value: int) -> tuple:
    return (*values[:index], value, *values[index + 1 :])


def least_time(costs: ChainCosts, budget: int) -> float | None:
    """Seconds of the fastest schedule within `budget` bytes, or None if there is none."""
    moves, n = _Moves(costs, budget), len(costs)
    start = ((True,) + (False,) * n, (NOTHING,) * n, n)
    if moves.held(*start) > budget:
        return None
    best, queue, done, ties = {start: 0.0}, [(0.0, 0, start)], set(), 0
    while queue:
        seconds, _, state = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        boundaries, _, following = state
        if following == 0 and boundaries[n]:
            return seconds
        for step, reached in moves.from_state(state) if following else ():
            total = seconds + step
            if reached not in done and total < best.get(reached, float("inf")):
                best[reached] = total
                ties += 1
                heapq.heappush(queue, (total, ties, reached))
    return None
