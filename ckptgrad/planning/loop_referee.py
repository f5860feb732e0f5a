"""The referee of loops: which steps run when a loop is reversed from a stack of checkpoints.

Plain numbers, step by step: the groups of a loop, the checkpoints that the first pass leaves, and the way back, on which
further ones are stored in the slots that are free.  The place of the next checkpoint is found by trying all of them for
the fewest forwards, not by the closed form that loops and policies use; nothing is imported from either.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import comb


def offline_starts(groups: int, slots: int) -> list[int]:
    """The groups at whose starts the first pass leaves a checkpoint, for a known length (Griewank and Walther 2000)."""
    starts = [0] if groups else []
    while groups and len(starts) < slots and starts[-1] < groups - 1:
        starts.append(starts[-1] + _best_distance(groups - starts[-1], slots - len(starts) + 1))
    return starts


def online_starts(groups: int, slots: int) -> list[int]:
    """The same for an unknown length (Wang, Moin and Iaccarino 2009): what is held after the last group."""
    held: list[tuple[int, float]] = []
    for group in range(groups):
        if not held:
            held.append((group, float("inf")))
        elif slots > 1 and len(held) < slots:
            held.append((group, 0))
        elif slots > 1:
            dispensable = [k for k, (_, level) in enumerate(held) if any(later > level for _, later in held[k + 1 :])]
            if dispensable:
                del held[dispensable[-1]]
                held.append((group, 0))
            else:
                _, level = held.pop()
                held.append((group, level + 1))
    return [group for group, _ in held]


def steps_run(length: int, slots: int, group: int, starts: Sequence[int], last_of_group: bool = True) -> int:
    """How many steps run forward in total: in the first pass, on the way back, and for their own backwards.

    Args:
        length: steps of the loop.
        slots: checkpoints held at once.
        group: steps whose residuals are held at once.
        starts: the groups at whose starts the first pass leaves a checkpoint.
        last_of_group: whether the last step of a group runs before the group's backward: not if that reads states only as
            they come into steps.
    """
    total, held = length, list(starts)
    for last in reversed(range(-(-length // group))):
        while held[-1] < last and len(held) < slots:
            ahead = _best_distance(last + 1 - held[-1], slots - len(held) + 1)
            total += ahead * group
            held.append(held[-1] + ahead)
        total += (last - held[-1]) * group
        total += min(group, length - last * group) - (not last_of_group)
        if held[-1] == last and len(held) > 1:
            held.pop()
    return total


@cache
def _best_distance(groups: int, checkpoints: int) -> int:
    """The shortest distance from a checkpoint to the next one that leads to the fewest forwards: from 1 to `groups` - 1."""
    if checkpoints == 1:
        return groups - 1  # No next one: the way to the last group, for its backward.

    def forwards(ahead: int) -> int:
        return ahead + _fewest_forwards(groups - ahead, checkpoints - 1) + _fewest_forwards(ahead, checkpoints)

    return min(range(1, groups), key=forwards)


@cache
def _fewest_forwards(groups: int, checkpoints: int) -> int:
    """Forwards beyond each group's own: all groups but C(checkpoints + k, checkpoints) run more than k times again."""
    total, again = 0, 0
    while (once := comb(checkpoints + again, checkpoints)) < groups:
        total += groups - once
        again += 1
    return total
