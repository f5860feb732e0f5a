"""The referee of loops: which steps run when a loop is reversed from a stack of checkpoints.

Plain numbers, step by step, sharing no code with what runs (`rules/loops`): the groups of a loop, the checkpoints that the
first pass leaves, and the way back, on which further ones are stored in the slots that are free.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.planning.policies.revolve import advance


def offline_starts(groups: int, slots: int) -> list[int]:
    """The groups at whose starts the first pass leaves a checkpoint, the length being known (Griewank and Walther 2000)."""
    starts = [0] if groups else []
    while groups and len(starts) < slots and starts[-1] < groups - 1:
        starts.append(starts[-1] + advance(groups - starts[-1], slots - len(starts) + 1))
    return starts


def online_starts(groups: int, slots: int) -> list[int]:
    """The same when it is not (Wang, Moin and Iaccarino 2009): what is left after the last group."""
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
    """How often a step runs forward, in all: in the first pass, on the way back, and for its own backward.

    Args:
        length: steps in all.
        slots: checkpoints that are held at once.
        group: steps whose residuals are held at once.
        starts: the groups at whose starts the first pass leaves a checkpoint.
        last_of_group: whether the last step of a group runs before the group's backward: not if that reads states only as
            they come into steps.
    """
    total, held = length, list(starts)
    for last in reversed(range(-(-length // group))):
        while held[-1] < last and len(held) < slots:
            ahead = advance(last + 1 - held[-1], slots - len(held) + 1)
            total += ahead * group
            held.append(held[-1] + ahead)
        total += (last - held[-1]) * group
        total += min(group, length - last * group) - (not last_of_group)
        if held[-1] == last and len(held) > 1:
            held.pop()
    return total
