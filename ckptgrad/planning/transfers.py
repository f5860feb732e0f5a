"""Boundaries sent to slower storage and fetched again, so that a schedule that holds too many fits into a device.

Algorithm: a schedule that holds more than there is room for is followed action by action.  Where an action does not fit, the
boundary that is read again last is sent away, and where it reads one that is away, that is fetched (Belady's rule, 1966).
Then each sending moves up to right after the boundary was used last, and each fetch as far as the device has room, so that
transfers go on beside computation.  Which schedule this is done to is decided by simulated time (`makespan`), over the
optimal schedules at several prices of a boundary's bytes: the cheaper they are, the less runs again, and the more is sent.
Regime: any schedule of a chain; bytes are exact.
Does not: send residuals or gradients, or prove that no other choice is faster.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.makespan import Makespan, Rates, simulate_makespan
from ckptgrad.planning.schedule import Action, Backward, Fetch, Forward, Free, Offload, Schedule

# The prices of a boundary, as shares of its bytes, at which schedules are planned: at none, all are stored and sent.
SHARES = (Fraction(0), Fraction(1, 16), Fraction(1, 8), Fraction(1, 4), Fraction(3, 8), Fraction(1, 2))
# In boundaries: what is held beside a schedule for values on their way, one out and one in, and by how much the room for
# which the schedule is planned is smaller than what it may hold: fetches may come earlier.  Where nothing is held for values
# on their way, computation waits for transfers more often, and more boundaries fit.
ROOMS = ((2, 0), (2, 2), (2, 4), (0, 0))
# Stages from which on fewer are tried, as each takes long.
LONG_CHAIN, FEW_SHARES, FEW_ROOMS = 200, SHARES[::2], ROOMS[1:3]
# A fetch moves up by the time of this many transfers at most: more would take room that others need.
AHEAD = 3


@dataclass(frozen=True)
class Room:
    """One tier as planning sees it.

    Attributes:
        capacity: bytes that it may hold.
        rates: of transfers to it and from it.
    """

    capacity: int
    rates: Rates


def tiered_schedule(
    costs: ChainCosts, budget: int, rooms: Sequence[Room], plan: Callable[[ChainCosts, int | None], Schedule]
) -> Schedule:
    """The schedule of least simulated time within `budget` bytes of the device, of those tried.

    Args:
        costs: of the chain.
        budget: bytes of the device.
        rooms: the tiers, the first to be filled first.
        plan: a policy, for the schedules without transfers.

    Raises:
        BudgetError: none fits.
    """
    best: tuple[float, Schedule] | None = None
    smallest: BudgetError | None = None
    try:
        plain = plan(costs, budget)
        best = makespan_of(costs, plain, []).seconds, plain
    except BudgetError as error:
        smallest = error
    for share in SHARES if len(costs) < LONG_CHAIN else FEW_SHARES:
        for sent in sent_at(costs, budget, rooms, plan, share):
            seconds = makespan_of(costs, sent, [room.rates for room in rooms], budget).seconds
            best = min(best or (seconds, sent), (seconds, sent), key=lambda found: found[0])
    if best is None:
        assert smallest is not None
        raise smallest
    return best[1]


def makespan_of(costs: ChainCosts, schedule: Schedule, rates: Sequence[Rates], budget: int | None = None) -> Makespan:
    """The simulated time of a schedule on a device that has the bytes which it is certified to take, and no more.

    Args:
        costs: of the chain.
        schedule: its schedule.
        rates: of its tiers.
        budget: as for `moving_bytes`.
    """
    ledger = Ledger(costs)
    ledger.run(schedule.actions)
    moving = moving_bytes(costs, schedule, ledger.peak, budget)
    return simulate_makespan(costs, schedule, rates, ledger.peak + moving)


def moving_bytes(costs: ChainCosts, schedule: Iterable[Action], peak: int = 0, budget: int | None = None) -> int:
    """Bytes beside what a schedule holds, so that transfers go on beside computation: of one boundary on its way out and one
    on its way in, or what a budget leaves of that; 0 where none is sent.

    Args:
        costs: of the chain.
        schedule: its actions.
        peak: what they hold at most.
        budget: bytes of the device; None: there is room.
    """
    sent = {action.boundary for action in schedule if isinstance(action, Offload)}
    most = 2 * max(map(costs.boundary_bytes, sent), default=0)
    return most if budget is None else min(most, max(0, budget - peak))


def sent_at(
    costs: ChainCosts,
    budget: int,
    rooms: Sequence[Room],
    plan: Callable[[ChainCosts, int | None], Schedule],
    share: Fraction = SHARES[0],
) -> Iterator[Schedule]:
    """Schedules within a budget that a policy writes for boundaries at a share of their bytes; what has no room is sent.

    Arguments are those of `tiered_schedule`.
    """
    most = max(1, *(costs.boundary_bytes(i) for i in range(len(costs) + 1)))
    for moving, spare in ROOMS if len(costs) < LONG_CHAIN else FEW_ROOMS:
        inner = budget - moving * most
        room = inner - spare * most
        with suppress(BudgetError):
            sent = with_transfers(costs, plan(_priced(costs, share), room), inner, rooms) if room > 0 else None
            if sent is not None:
                yield sent


def _priced(costs: ChainCosts, share: Fraction) -> ChainCosts:
    """The costs with boundaries at a share of their bytes: the rest is taken to be away."""
    known: dict[int, StageCost] = {}
    for stage in costs.stages:
        if id(stage) not in known:
            known[id(stage)] = replace(stage, boundary_bytes=int(stage.boundary_bytes * share))
    return replace(costs, stages=tuple(known[id(stage)] for stage in costs.stages))


def with_transfers(costs: ChainCosts, schedule: Schedule, budget: int, rooms: Sequence[Room]) -> Schedule | None:
    """The schedule with boundaries sent away and fetched, so that it holds at most `budget` bytes; None if it cannot.

    None also where the tiers are too small.
    """
    actions = _evicted(costs, schedule, budget, rooms)
    if actions is None:
        return None
    moved = _fetched_early(costs, _sent_early(costs, actions), budget, rooms)
    return Schedule(tuple(moved), f"{schedule.policy}, sent")


def _evicted(costs: ChainCosts, schedule: Schedule, budget: int, rooms: Sequence[Room]) -> list[Action] | None:
    reads = _reads(costs, schedule)
    uses: dict[int, list[int]] = {}
    for k, read in enumerate(reads):
        for b in read:
            uses.setdefault(b, []).append(k)
    never = len(reads)

    def next_use(b: int, k: int) -> int:
        later = uses.get(b, [])
        at = bisect_right(later, k)
        return later[at] if at < len(later) else never

    ledger, free = Ledger(costs), [room.capacity for room in rooms]
    tier_of: dict[int, int] = {}
    made: list[Action] = []

    def run(action: Action) -> None:
        ledger.run([action])
        made.append(action)

    def tier_for(b: int) -> int | None:
        size = costs.boundary_bytes(b)
        return tier_of.get(b, next((t for t, left in enumerate(free) if left >= size), None))

    def make_room(needed: int, reading: tuple[int, ...], k: int) -> bool:
        while ledger.live + needed > budget:
            others = [b for b in ledger.boundaries if b not in reading and costs.boundary_bytes(b) and 0 < b < len(costs)]
            # One that a tier has a copy of already takes no more of its bytes.
            b = max((b for b in others if tier_for(b) is not None), key=lambda b: (next_use(b, k), b), default=None)
            if b is None:
                return False
            if b not in tier_of:
                tier_of[b] = cast(int, tier_for(b))
                free[tier_of[b]] -= costs.boundary_bytes(b)
            run(Offload(b, tier_of[b]))
        return True

    for k, action in enumerate(schedule):
        for b in reads[k]:
            if b in ledger.away and b not in ledger.boundaries:
                if not make_room(costs.boundary_bytes(b), reads[k], k):
                    return None
                run(Fetch(b, tier_of[b]))
        if isinstance(action, Free):
            if action.boundary in tier_of:
                free[tier_of.pop(action.boundary)] += costs.boundary_bytes(action.boundary)
        elif not make_room(ledger.needs(action), (*reads[k], action.about + 1), k):
            return None
        run(action)
    return made


def _reads(costs: ChainCosts, actions: Sequence[Action] | Schedule) -> list[tuple[int, ...]]:
    """The boundaries that each action reads."""
    keeps: dict[int, int] = {}
    found: list[tuple[int, ...]] = []
    for action in actions:
        if isinstance(action, Forward):
            if action.keep is not None:
                keeps[action.stage] = action.keep
            found.append((action.stage,))
        elif isinstance(action, Backward):
            option = costs.stages[action.stage].options[keeps[action.stage]]
            read = [action.stage] * option.reads_input + [action.stage + 1] * option.reads_output
            found.append(tuple(read))
        else:
            found.append(())
    return found


def _sent_early(costs: ChainCosts, actions: Sequence[Action]) -> list[Action]:
    """Each sending right after the last action that makes or reads its boundary."""
    reads, last = _reads(costs, actions), dict[int, int]()
    after: dict[int, list[Action]] = {}
    for k, action in enumerate(actions):
        if isinstance(action, Offload):
            after.setdefault(last.get(action.boundary, -1), []).append(action)
            continue
        for b in reads[k]:
            last[b] = k
        if isinstance(action, Forward) and action.output:
            last[action.stage + 1] = k
        if isinstance(action, Fetch):
            last[action.boundary] = k
    moved = list(after.get(-1, []))
    for k, action in enumerate(actions):
        if not isinstance(action, Offload):
            moved.append(action)
        moved += after.get(k, [])
    return moved


def _fetched_early(costs: ChainCosts, actions: Sequence[Action], budget: int, rooms: Sequence[Room]) -> list[Action]:
    """Each fetch as early as the device has room for it, but not before its boundary was sent, nor much too early."""
    ledger, during, seconds = Ledger(costs), list[int](), list[float]()
    live = ledger.live
    for change in ledger.changes(actions):
        # A fetch before a free is held beside what that drops.
        during.append(live + max(0, change.during))
        live += change.after
        seconds.append(change.seconds)
    moved: list[tuple[int, int]] = []
    for k, action in enumerate(actions):
        if not isinstance(action, Fetch):
            continue
        size = costs.boundary_bytes(action.boundary)
        ahead = AHEAD * rooms[action.tier].rates.get_seconds(size)
        place, spent = k, 0.0
        while place > 0 and spent < ahead:
            before = actions[place - 1]
            if isinstance(before, Offload | Fetch) and before.boundary == action.boundary:
                break
            if during[place - 1] + size > budget:
                break
            place -= 1
            spent += seconds[place]
        for j in range(place, k):
            during[j] += size
        moved.append((place, k))
    fetches: dict[int, list[Action]] = {}
    gone = set[int]()
    for place, k in moved:
        fetches.setdefault(place, []).append(actions[k])
        gone.add(k)
    result: list[Action] = []
    for k, action in enumerate(actions):
        result += fetches.get(k, [])
        if k not in gone:
            result.append(action)
    return result
