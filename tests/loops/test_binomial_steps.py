"""Binomial checkpointing in loops: equal to the referee, with which it shares no code, whenever it is decided."""

from __future__ import annotations

from math import comb

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckptgrad import binomial
from ckptgrad.loops.binomial_steps import advance, climbed, first_pass
from ckptgrad.planning.loop_referee import offline_starts, steps_run


@given(st.integers(1, 120), st.integers(1, 40))
def test_the_first_pass_and_its_extra_forwards_are_those_of_the_referee(steps, checkpoints):
    """But that the first pass goes on from its last checkpoint to the end of the loop."""
    starts = first_pass(steps, checkpoints)
    assert starts == offline_starts(steps, checkpoints)
    extra = steps_run(steps, checkpoints, 1, starts) - steps - (steps - starts[-1])
    assert extra == binomial.extra_forwards(steps, checkpoints)
    # In the first pass and for its own backward each step runs once.
    assert climbed(steps, checkpoints) == steps_run(steps, checkpoints, 1, starts) - 2 * steps


@given(st.integers(2, 100_000), st.integers(1, 32))
@example(5984, 3)
@example(5985, 3)
@settings(max_examples=60)
def test_advances_decided_in_the_program_are_those_known_before(steps, checkpoints):
    ahead = int(advance(steps, checkpoints, 32))
    assert 1 <= ahead < steps
    # Beyond the 31 repetitions of the table the stride is even.
    in_table = checkpoints == 1 or steps <= comb(checkpoints + 31, checkpoints)
    assert ahead == (binomial.advance(steps, checkpoints) if in_table else -(-steps // checkpoints))
