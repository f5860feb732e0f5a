"""Which plans are offered for the loops of a stage, from fast ones to small ones.

A loop of equal steps is a uniform chain.  Each way to reverse it (`reversals`) prices its plans with each of the save
options of one step, found as those of a stage are; of all plans those that are worth having are offered to the planner.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar

import numpy as np

from ckptgrad.graph.atoms import is_in_host
from ckptgrad.graph.graph import Variable
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.planned import open_loops, stored_by, with_plans
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.reversals.reversal import Candidate, Offer, registered
from ckptgrad.loops.step_costs import StepCosts
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.partition import Partition, partition
from ckptgrad.stage.save_options import Saveable, residual_choices
from ckptgrad.target.roofline import Roofline

# Plans of a loop that are offered to the planner, and those of a loop inside another one's step.
MOST_PLANS, MOST_INNER = 40, 4
# Plans that are this near in bytes and seconds are alike.
ALIKE = 1.02
# Seconds per byte: at this price bytes alone count.
_ENDLESS = 1e12

_USUAL = Offer()
_OFFER: ContextVar[Offer] = ContextVar("offer", default=_USUAL)

# For all open loops of a joint graph together: the plans in a few words, and the plan of each loop.
Assignment = tuple[str, Mapping[Loop, Candidate]]


def current_offer() -> Offer:
    """Which plans of loops are considered and offered now."""
    return _OFFER.get()


@contextlib.contextmanager
def offering(offer: Offer) -> Iterator[None]:
    """Consider and offer other plans of loops than usual, while it lasts.

    Kinds of stages keep the plans that they were offered: `chain.program.forget_kinds` before and after.
    """
    token = _OFFER.set(offer)
    try:
        yield
    finally:
        _OFFER.reset(token)


def planned_choices(
    joint: Joint, boundary: Collection[Variable], roofline: Roofline, saveable: Saveable | None = None
) -> Iterator[tuple[str, Partition]]:
    """What to keep of a joint graph (`residual_choices`), with each of the plans for its loops."""
    offered = assignments(joint, roofline, saveable, MOST_PLANS)
    joints = [with_plans(joint, plans) for _, plans in offered]
    middle = _middle(joints)
    stored, choices = stored_by(middle), residual_choices(middle, boundary, roofline, saveable)
    among_stored = {v for variables in stored.values() for v in variables}
    for (loops, _), planned in zip(offered, joints, strict=True):
        there = stored_by(planned)
        for name, keep in choices:
            # What a plan stores is kept whole or not at all; what takes nothing of the device's memory is kept.
            whole = [
                v
                for loop, variables in stored.items()
                if {*variables} <= {*keep} or _stores_in_host(there[loop])
                for v in there[loop]
            ]
            same = [v for v in keep if v not in among_stored]
            yield f"{loops}, {name}" if loops else name, partition(planned, [*same, *whole])


def _middle(joints: Sequence[Joint]) -> Joint:
    """The joint graph whose loops store what tells which values are worth keeping: what is in the host's memory is free."""
    in_device = [j for j in joints if not any(map(_stores_in_host, stored_by(j).values()))]
    among = in_device or joints
    return among[len(among) // 2]


def _stores_in_host(stored: Sequence[Variable]) -> bool:
    return any(is_in_host(v.aval) for v in stored)


def assignments(joint: Joint, roofline: Roofline, saveable: Saveable | None, most: int) -> list[Assignment]:
    """Plans for all open loops of a joint graph together, from fast ones to small ones."""
    loops = open_loops(joint)
    if not loops:
        return [("", {})]
    fronts = [thinned(loop_candidates(loop, roofline, saveable), most) for loop in loops]
    if len(fronts) == 1:
        return [(p.name, {loops[0]: p}) for p in fronts[0]]
    combinations: dict[tuple[int, ...], Assignment] = {}
    room = roofline.target.host_bytes
    for price in _prices(fronts):
        chosen = _within_host([min(front, key=lambda p: p.seconds + price * p.bytes) for front in fronts], fronts, room)
        key = tuple(id(p) for p in chosen)
        name = " and ".join(dict.fromkeys(p.name for p in chosen))
        combinations[key] = name, dict(zip(loops, chosen, strict=True))
    # Evenly from all, the fastest and the smallest among them.
    every = [*combinations.values()]
    places = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
    return [every[i] for i in places]


def _within_host(chosen: Sequence[Candidate], fronts: Sequence[Sequence[Candidate]], room: int) -> list[Candidate]:
    """Plans that store no more than `room` bytes in the host's memory together: for the last ones that do not fit others."""
    kept: list[Candidate] = []
    for candidate, front in zip(chosen, fronts, strict=True):
        left = room - sum(c.host_bytes for c in kept)
        alike = [c for c in front if c.host_bytes <= left]
        kept.append(candidate if candidate.host_bytes <= left else min(alike or front, key=lambda c: (c.bytes, c.seconds)))
    return kept


def _prices(fronts: Sequence[Sequence[Candidate]]) -> list[float]:
    """Seconds per byte at which some loop changes from one plan to another."""
    prices = {0.0, _ENDLESS}
    for front in fronts:
        for a in front:
            smaller = [b for b in front if b.bytes < a.bytes and b.seconds > a.seconds]
            prices |= {(b.seconds - a.seconds) / (a.bytes - b.bytes) for b in smaller}
    return sorted(prices)


def thinned(candidates: list[Candidate], most: int) -> list[Candidate]:
    """About `most` of the candidates, the fastest first: of those that are alike in bytes the fastest, and the smallest.

    Most are told apart by bytes in total; a few more by what is stored between forward and backward, which is what counts
    where other stages run in between.
    """
    fastest = min(c.seconds for c in candidates)
    offered = [c for c in candidates if c.seconds <= current_offer().slowest * fastest]
    ordered = sorted(offered, key=lambda c: (c.seconds, c.bytes))
    few = most // 4
    kept = {*_unlike(ordered, most - few, lambda c: 0), *_unlike(ordered, few, lambda c: (c.stored + 1).bit_length() // 8)}
    kept.add(min(offered, key=lambda c: (c.bytes, c.seconds)))
    return [c for c in ordered if c in kept]


def _unlike(ordered: Sequence[Candidate], most: int, size: Callable[[Candidate], int]) -> list[Candidate]:
    """Those that no faster one of their size, or a smaller one, equals in bytes."""
    kept, alike = _distinct(ordered, 1.0, size), ALIKE
    while len(kept) > most:
        kept, alike = _distinct(kept, alike, size), 1 + 1.25 * (alike - 1)
    return kept


def _distinct(ordered: Sequence[Candidate], alike: float, size: Callable[[Candidate], int]) -> list[Candidate]:
    kept: list[Candidate] = []
    # For each size the fewest bytes of those that are kept and no larger.
    fewest = [math.inf] * 16
    for c in ordered:
        k = size(c)
        if fewest[k] > alike * c.bytes:
            kept.append(c)
            fewest[k:] = [min(f, c.bytes) for f in fewest[k:]]
    return kept


def loop_candidates(loop: Loop, roofline: Roofline, saveable: Saveable | None) -> list[Candidate]:
    """All plans of one loop, by every way to reverse it."""
    offer = current_offer()
    ways = [r for name, r in registered().items() if offer.ways is None or name in offer.ways]
    steps = _step_costs(loop, roofline, saveable)
    best = [s for k, s in enumerate(steps) if not any(o.beats(s, j < k) for j, o in enumerate(steps) if j != k)]
    candidates = [
        candidate
        for costs in best
        for way in ways
        if way.refusal(loop, costs.weight_sums) is None
        for candidate in way.way.candidates(costs, offer)
    ]
    return offer.select(candidates)


def _step_costs(loop: Loop, roofline: Roofline, saveable: Saveable | None) -> list[StepCosts]:
    """Of one step with each save option, and each of the plans for loops inside; without weight sums and with them."""
    body = loop.body
    steps: list[StepCosts] = []
    seen: set[tuple[Variable, ...]] = set()
    for inner, plans in assignments(body.joint, roofline, saveable, MOST_INNER):
        joint = with_plans(body.joint, plans)
        for _, keep in residual_choices(joint, body.carry_inputs, roofline, saveable):
            part = partition(joint, [v for v in keep if v not in body.invariant])
            if not plans and part.residuals in seen:
                continue
            seen.add(part.residuals)
            replay = Replay(body, part, roofline.target.platform.slices_first)
            steps.append(StepCosts(replay, roofline, loop, inner))
            weight_sums = WeightSums(replay)
            if weight_sums.terms:
                steps.append(StepCosts(replay, roofline, loop, inner, weight_sums))
    return steps
