"""What a little more or a little less budget does: a few points of the frontier beside the plan.

Budgets are given as they can be written, rounded up, and times are those of the plans within these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ckptgrad.bytes import as_budget
from ckptgrad.planning.frontier import Point, points_of_all
from ckptgrad.planning.optimal.exhaustive_search import searchable
from ckptgrad.results.advice.advice import Sentence, adviser
from ckptgrad.results.advice.chunks import cuttable_sizes

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# A smaller budget is cheap if it costs no more than this share of the time, and worth naming if it saves that of the bytes.
CHEAP, WORTH = 0.05, 0.05
_THAN = " than this plan"
# Where time has grown this much, a budget is said to be too small.
STEEP = 2.0


@adviser(order=2)
def advise(plan: Plan) -> Iterator[Sentence]:
    """A smaller budget that costs little, the one below which time doubles, the smallest; larger ones that save time."""
    if not plan.fenced or plan.makespan is not None or plan.microbatches is not None or plan.seconds <= 0:
        return
    # Schedules of short chains need not be nested, and are searched for as the plan was.
    points = points_of_all(plan.ways) if searchable(plan.costs) else plan.points
    if not points:  # too long a chain
        return
    times = _Times(plan, points)
    yield from _less(plan, times)
    yield from _more(plan, times)


class _Times:
    """The time within a budget, in times that of a plan."""

    def __init__(self, plan: Plan, points: Sequence[Point]) -> None:
        self._seconds, self.points = plan.seconds, points

    def within(self, peak: int) -> tuple[str, int, float]:
        """A budget of at least `peak` bytes as it can be written, its bytes, and the time within it."""
        text, size = as_budget(peak)
        return text, size, min(p.seconds for p in self.points if p.peak_bytes <= size) / self._seconds


def _less(plan: Plan, times: _Times) -> Iterator[Sentence]:
    lower = [point for point in times.points if point.peak_bytes < plan.peak_bytes]
    if not lower:
        yield "no smaller budget is feasible", {"least_bytes": times.points[0].peak_bytes}
        return
    cheap = next((p for p in lower if p.seconds <= (1 + CHEAP) * plan.seconds), None)
    if cheap is not None and cheap.peak_bytes <= (1 - WORTH) * plan.peak_bytes:
        text, size, ratio = times.within(cheap.peak_bytes)
        yield f"with a budget of {text} it takes {_change(ratio, _THAN)}", {"budget": text, "bytes": size, "times": ratio}
    least_text, least, worst = times.within(lower[0].peak_bytes)
    smallest = f"the smallest budget{' of stages that run whole' if cuttable_sizes(plan) else ''}, {least_text},"
    figures = {"least": least_text, "least_bytes": least, "least_times": worst}
    if worst > STEEP:
        steep = next(p.peak_bytes for p in times.points if p.seconds <= STEEP * plan.seconds)
        text, size = as_budget(steep, up=False)
        below = "" if text == least_text else f"below {text} the time more than doubles; "
        yield (
            f"{below}{smallest} takes {worst:.2f} times as long",
            {"steep": text, "steep_bytes": size, **figures},
        )
    elif cheap is not lower[0]:
        yield f"{smallest} takes {_change(worst, '' if cheap else _THAN)}", figures


def _more(plan: Plan, times: _Times) -> Iterator[Sentence]:
    fastest = times.points[-1]
    if fastest.seconds > 0.99 * plan.seconds:
        if plan.budget is not None:
            yield "a larger budget saves no time", {"fastest_times": fastest.seconds / plan.seconds}
        return
    first = next(p for p in times.points if p.seconds <= (plan.seconds + fastest.seconds) / 2)
    named = [times.within(p.peak_bytes) for p in dict.fromkeys((first, fastest))]
    larger = [{"budget": text, "bytes": size, "times": ratio} for text, size, ratio in named]
    more = [f", with {text} {_change(ratio)}" for text, _, ratio in named[1:]]
    text, _, ratio = named[0]
    yield f"with a budget of {text} it takes {_change(ratio)}{''.join(more)}; no budget saves more", {"larger": larger}


def _change(ratio: float, than: str = "") -> str:
    """A ratio of times in words: "3% more time", and than what."""
    if abs(ratio - 1) < 0.005:
        return "as long"
    return f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'} time{than}"
