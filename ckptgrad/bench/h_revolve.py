"""Schedules of H-Revolve (Herrmann and Pallez 2020) from the checkpoint-schedules package, in our actions."""

from __future__ import annotations

from typing import Any

from ckptgrad.bench.peers import CHECKPOINT_SCHEDULES
from ckptgrad.planning.schedule import Action, Backward, Fetch, Forward, Free, Offload, Schedule


def h_revolve(steps: int, in_memory: int, on_disk: int, backward: float, put: float, get: float) -> tuple[Schedule, float]:
    """The schedule for equal stages, and its seconds, where nothing overlaps.

    The chain's input is the caller's, and is neither sent nor fetched.

    Args:
        steps: the number of stages, whose forward takes one second.
        in_memory, on_disk: slots for boundaries.
        backward: seconds of a stage's backward.
        put, get: seconds to send a boundary and to fetch it.
    """
    actions: list[Action] = []
    seconds, stored, disk = 0.0, set[int](), set[int]()
    hrevolve: Any = CHECKPOINT_SCHEDULES.load().HRevolve
    for action in hrevolve(steps, in_memory, on_disk, uf=1.0, ub=backward, wd=put, rd=get):
        match type(action).__name__:
            case "Forward":
                first, end = action.n0, min(action.n1, steps)
                if action.write_ics:
                    stored.add(first)
                if action.write_ics and "DISK" in str(action.storage) and first:
                    disk.add(first)
                    seconds += put
                for stage in range(first, end):
                    keep = 0 if action.write_adj_deps and stage == end - 1 else None
                    actions.append(Forward(stage, keep, keep is None or stage == steps - 1))
                    seconds += 1.0
                    if stage in disk:
                        actions.append(Offload(stage))
                    elif stage not in stored:
                        actions.append(Free(stage))
            case "Reverse":
                actions += [Backward(stage) for stage in range(action.n1 - 1, action.n0 - 1, -1)]
                seconds += backward * (action.n1 - action.n0)
            case "Copy" | "Move":
                if action.n in disk:
                    actions.append(Fetch(action.n))
                    seconds += get
                if type(action).__name__ == "Move":
                    stored.discard(action.n)
                    disk.discard(action.n)
            case _:
                pass
    return Schedule(tuple(actions), "H-Revolve"), seconds
