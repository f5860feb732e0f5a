"""What plans took is known of equal plans, as long as their stages live."""

import gc

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.outcomes import Outcome, Outcomes

X = jnp.ones((4, 4))


def program_of(depth=2):
    def loss(x):
        for _ in range(depth):
            x = jnp.sin(x @ x)
        return jnp.sum(x)

    return cg.plan(loss, X).program


def test_the_last_outcome_of_equal_stages_and_an_equal_schedule():
    outcomes, program = Outcomes(), program_of()
    first, second = Schedule((), "first"), Schedule((), "second")
    assert outcomes.get(program, first) is None
    outcomes.put(program, first, Outcome(1))
    outcomes.put(program, first, Outcome(2, 0.5))
    assert outcomes.get(program, first) == Outcome(2, 0.5)
    assert outcomes.get(program_of(), first) == Outcome(2, 0.5)
    assert outcomes.get(program, second) is None
    assert outcomes.get(program_of(3), first) is None


def test_the_oldest_outcomes_are_dropped():
    outcomes, program = Outcomes(most=2), program_of()
    for name in "abc":
        outcomes.put(program, Schedule((), name), Outcome(1))
    assert [outcomes.get(program, Schedule((), name)) for name in "abc"] == [None, Outcome(1), Outcome(1)]


def test_outcomes_are_known_no_longer_than_their_stages():
    outcomes, program = Outcomes(), program_of()
    outcomes.put(program, Schedule((), "a"), Outcome(1))
    assert outcomes.stages == 1
    del program
    jax.clear_caches()
    gc.collect()
    assert outcomes.stages == 0
