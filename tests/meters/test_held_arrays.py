"""The ledger counts what is held between the actions of a plan."""

from __future__ import annotations

import ckptgrad as cg
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(32, 128)


def test_the_ledger_counts_what_is_held_between_actions():
    course = cg.timeline(tanh_loss, WS, X, budget="0.6x", observe=("ledger",))
    reading = course.readings["ledger"]
    assert len(reading.curve) == len(course.moments)
    # Results are counted when they are made, and transients not at all.
    for (_, held), moment in zip(reading.curve, course.moments, strict=True):
        assert held <= moment.total
    last = sum(w.nbytes for w in WS) + 4
    assert reading.curve[-1][1] == last
