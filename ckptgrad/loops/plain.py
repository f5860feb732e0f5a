"""The default way to reverse a loop, used where no plan chooses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ckptgrad.loops.loop import Loop
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.reversals.online import Online
from ckptgrad.loops.reversals.reversal import Reversal
from ckptgrad.loops.reversals.store_all import StoreAll
from ckptgrad.loops.scan import Scan
from ckptgrad.stage.kept_plainly import kept_plainly
from ckptgrad.stage.partition import partition

# For a loop of unknown length: the states that are held besides those of one group of steps.
SLOTS, GROUP = 32, 16


def plain_reversal(loop: Loop) -> Reversal[Any]:
    """Every step stored; where their number is unknown, a fixed number of checkpoints, with nothing but states kept."""
    body = loop.unplanned
    if isinstance(loop, Scan):
        return StoreAll(
            Replay(body, partition(body.joint, [v for v in kept_plainly(body.joint) if v not in body.invariant]))
        )
    return Online(Replay(body, partition(body.joint, ())), SLOTS, GROUP)


def reverse_plainly(loop: Loop, operands: Sequence[Any]) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Results and the pullback, without a plan."""
    reversal = plain_reversal(loop)
    results, stored = reversal.forward(loop, operands)
    return results, lambda *cotangents: reversal.backward(loop, operands, stored, cotangents)
