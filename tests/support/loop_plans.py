"""Plans forced on the loops of a test."""

from __future__ import annotations

import contextlib

import pytest

from ckptgrad.chain.program import forget_kinds
from ckptgrad.loops import candidates
from ckptgrad.loops.reversals.store_all import StoreAll


@contextlib.contextmanager
def only(wanted):
    """Of the plans that are found for loops, offer the first that `wanted(plan)` is true of; yields those offered."""
    found, offered = candidates.loop_plans, []

    def chosen(*args):
        candidate = next(c for c in found(*args) if wanted(c.costed.plan))
        offered.append(candidate.costed.plan)
        return [candidate]

    with pytest.MonkeyPatch.context() as patch:
        forget_kinds()
        patch.setattr(candidates, "loop_plans", chosen)
        yield offered
    forget_kinds()


def every_step_stored(plan):
    return isinstance(plan, StoreAll)


def stack(slots, group, deferred=None):
    """A stack of so many slots and steps in a group."""

    def wanted(plan):
        alike = deferred is None or deferred == (plan.deferral is not None) if hasattr(plan, "deferral") else False
        return getattr(plan, "slots", None) == slots and plan.group == group and alike

    return wanted


@contextlib.contextmanager
def with_stack(slots, group, deferred=None):
    """Loops reversed from a stack of so many slots and steps in a group, whatever is estimated of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "SLOWEST", float("inf"))
        patch.setattr(candidates, "LARGEST", float("inf"))
        patch.setattr(candidates, "_grid", lambda most, parts: sorted({slots, group}))
        with only(stack(slots, group, deferred)) as offered:
            yield offered
