"""Plans forced on the loops of a test."""

from __future__ import annotations

import contextlib
import dataclasses

import ckptgrad as cg
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.chain.program import forget_kinds
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.loops.candidates import offering
from ckptgrad.loops.reversals.checkpoints import FromCheckpoints
from ckptgrad.loops.reversals.reversal import Offer
from ckptgrad.loops.scan import scan_of
from ckptgrad.loops.while_loop import while_of

EVERYTHING = Offer(slowest=float("inf"), largest=float("inf"))


@contextlib.contextmanager
def only(wanted, offer=EVERYTHING):
    """Of the plans that are found for loops, offer the first that `wanted(reversal)` is true of; yields those offered."""
    offered = []

    def select(candidates):
        candidate = next(c for c in candidates if wanted(c.reversal))
        offered.append(candidate.reversal)
        return [candidate]

    forget_kinds()
    with offering(dataclasses.replace(offer, select=select)):
        yield offered
    forget_kinds()


def with_checkpoints(slots, group, deferred=None):
    """Loops reversed from a number of checkpoints and of steps per group, whatever is estimated of it.

    `deferred`: with gradients of constants summed group by group, or without; None: either.
    """

    def wanted(reversal):
        if not isinstance(reversal, FromCheckpoints):
            return False
        alike = deferred is None or deferred == (reversal.weight_sums is not None)
        return alike and (reversal.slots, reversal.group) == (slots, group)

    numbers = sorted({slots, group})
    return only(wanted, dataclasses.replace(EVERYTHING, numbers=lambda most, coarseness: numbers))


def loop_of(fun, *args):
    """The first loop of a function, differentiated towards all its operands, before a plan says how; and its operands."""
    graph = cg.trace(fun, *args)
    env = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
    for op in graph.operations:
        operands = [read(env, a) for a in op.inputs]
        if op.name in ("scan", "while"):
            needs = [is_differentiable(a.aval) for a in op.inputs]
            return (scan_of if op.name == "scan" else while_of)(op, needs, True), operands
        env.update(zip(op.outputs, apply(op, operands), strict=True))
    raise ValueError("there is no loop")
