"""How a loop is reversed where no plan says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ckptgrad.loops.body import Kept
from ckptgrad.loops.loop import Loop, LoopPlan
from ckptgrad.loops.reversals.online import Online
from ckptgrad.loops.reversals.store_all import StoreAll
from ckptgrad.loops.scan import Scan
from ckptgrad.stage.partition import partition

# For a loop of unknown length: the states that are held besides those of one group of steps.
SLOTS, GROUP = 32, 16


def plain_reversal(loop: Loop) -> LoopPlan:
    """Every step stored; where their number is unknown, a fixed number of checkpoints, with nothing but states kept."""
    step = loop.unplanned
    if isinstance(loop, Scan):
        return StoreAll(step.everything)
    return Online(Kept(step, partition(step.joint, ())), SLOTS, GROUP)


def reverse_plainly(loop: Loop, operands: Sequence[Any]) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Results and the pullback, without a plan."""
    reversal = plain_reversal(loop)
    results, stored = reversal.forward(loop, operands)
    return results, lambda *cotangents: reversal.backward(loop, operands, stored, cotangents)
