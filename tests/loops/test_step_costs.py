"""What one step of a loop costs: bytes by hand, seconds from the roofline of a target."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from jax import lax

from ckptgrad.loops.replay import Replay
from ckptgrad.loops.step_costs import USUAL_LENGTH, StepCosts
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.stage.partition import partition
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import described
from tests.support.loop_plans import loop_of

ROOFLINE = Roofline(described("cpu"))
W, X = jnp.eye(256), jnp.ones((512, 256))
STATE = X.nbytes


def scanned(w, x):
    return lax.scan(lambda c, _: ((c[0] + 1, jnp.sin(c[1] @ w)), None), (0, x), None, length=5)


def costs_of(keep, fun=scanned, deferred=False):
    """Costs of a step that keeps the values made by one primitive."""
    loop, _ = loop_of(fun, W, X)
    body = loop.body
    made = [v for op in body.joint.forward_operations if op.name == keep for v in op.outputs]
    replay = Replay(body, partition(body.joint, made))
    return StepCosts(replay, ROOFLINE, loop, weight_sums=WeightSums(replay) if deferred else None)


def test_bytes():
    """The state is the array and the count; the backward reads the array as it enters, and the product."""
    nothing, product = costs_of(None), costs_of("dot_general")
    assert nothing.state == product.state == STATE + 4
    assert (nothing.private, nothing.read, nothing.waiting, nothing.sums) == (0, STATE, 0, 0)
    assert (product.private, product.read) == (STATE, STATE)
    assert (nothing.each, product.each) == (STATE, 2 * STATE)
    assert nothing.forward_inside >= nothing.state


def test_sums_over_steps_wait_for_their_operands():
    """The cotangent of the product waits; the state that it meets is stored anyway."""
    deferred = costs_of("dot_general", deferred=True)
    assert (deferred.waiting, deferred.sums) == (STATE, W.nbytes)
    assert deferred.each == 3 * STATE


def test_what_is_kept_is_not_done_again():
    nothing, product = costs_of(None), costs_of("dot_general")
    assert nothing.plain == product.plain
    assert nothing.keep <= product.keep
    assert nothing.back > product.back
    assert product.inner == ""


def test_courses_reach_what_is_held_inside():
    costs = costs_of("dot_general")
    forward, backward = costs.forward_course, costs.backward_course
    assert 0 < sum(seconds for seconds, _ in forward) < sum(seconds for seconds, _ in backward)
    assert max(held for _, held in forward) <= costs.forward_inside
    assert max(held for _, held in backward) == costs.backward_inside


def test_what_a_group_does_beside_its_steps_takes_launches():
    """Sums that wait need room and a product each; a climb needs as many however much is kept."""
    launch = ROOFLINE.rates.launch
    kept, deferred = costs_of("dot_general"), costs_of("dot_general", deferred=True)
    assert deferred.group_start - kept.group_start == pytest.approx(3 * launch)
    assert kept.group_start - costs_of(None).group_start == pytest.approx(launch)
    assert kept.climb_start == deferred.climb_start > kept.group_start > 5 * launch


def test_one_option_beats_another_that_is_worse_in_something_and_better_in_nothing():
    """Keeping the product costs bytes and saves time."""
    product, same = costs_of("dot_general"), costs_of("dot_general")
    assert product.beats(same, ties=True)
    assert not product.beats(same, ties=False)
    assert not product.beats(costs_of(None), ties=True)
    assert not costs_of(None).beats(product, ties=True)


def test_a_loop_of_unknown_length_is_compared_as_one_of_the_usual_length():
    whiled = lambda w, x: lax.while_loop(lambda c: c.sum() < 9, lambda c: jnp.sin(c @ w), x)
    assert costs_of(None).length == 5
    assert costs_of(None, whiled).length == USUAL_LENGTH
