"""A schedule run action by action: what is held, what an action needs, and gradients that several stages add to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.interpreter import Execution, split_at_backward
from ckptgrad.planning import Backward, Forward, Free
from ckptgrad.planning.schedule import Schedule
from ckptgrad.target.platform import Isolation

W, X = jnp.eye(3) * 0.5, jnp.linspace(0.1, 1.0, 6).reshape(2, 3)


def loss(w, unused, x):
    """Three equal layers that share their weights."""
    for _ in range(3):
        x = jnp.tanh(x @ w)
    return x.sum()


PLAN = cg.plan(loss, W, X, X, argnums=(0, 1), policy="store_all")
PROGRAM = PLAN.program


def begun():
    return Execution(PROGRAM, [W, X, X])


def finished(actions):
    execution = begun()
    forward, backward = split_at_backward(Schedule(tuple(actions), "test"))
    execution.run(forward)
    execution.seed([jnp.float32(1)])
    return execution.run(backward)


def test_the_schedule_is_split_at_the_first_backward():
    forward, backward = split_at_backward(PLAN.schedule)
    assert (*forward, *backward) == tuple(PLAN.schedule)
    assert isinstance(backward[0], Backward)
    assert not any(isinstance(action, Backward) for action in forward)
    assert split_at_backward(Schedule((Forward(0),), "test")) == ((Forward(0),), ())


def test_gradients_of_stages_that_share_an_argument_are_added():
    execution = finished(PLAN.schedule)
    value, gradient = jax.value_and_grad(loss)(W, X, X)
    np.testing.assert_allclose(execution.output(PROGRAM.graph.outputs[0]), value, rtol=1e-6)
    for_w, for_unused = (execution.gradient(v) for v in PROGRAM.wrt)
    np.testing.assert_allclose(for_w, gradient, rtol=1e-5)
    np.testing.assert_array_equal(for_unused, jnp.zeros_like(X))


def test_a_stage_that_runs_again_gives_the_same():
    """Nothing is kept: each backward follows a second forward of its stage from a boundary that is made again."""
    last = len(PROGRAM.stages) - 1
    actions = [Forward(i) for i in range(last)]
    for i in reversed(range(last + 1)):
        actions += [Free(k) for k in range(1, last + 1)] + [Forward(k) for k in range(i)]
        actions += [Forward(i, keep=0), Backward(i)]
    np.testing.assert_allclose(finished(actions).gradient(PROGRAM.wrt[0]), jax.grad(loss)(W, X, X), rtol=1e-5)


def test_what_an_action_needs_must_be_held():
    with pytest.raises(ScheduleError, match="stage 1 reads boundary 1, which is not held"):
        begun().run([Forward(0), Free(1), Forward(1)])
    with pytest.raises(ScheduleError, match="stage 0 has no residuals"):
        begun().run([Forward(0), Backward(0)])


def test_a_fork_goes_on_by_itself():
    execution = begun().run([Forward(0)])
    held = len(execution.arrays())
    execution.fork().run([Forward(1), Free(1)])
    assert len(execution.arrays()) == held
    assert 1 in execution.boundaries


def test_open_stages_have_the_gradients_of_fenced_ones():
    forward, backward = split_at_backward(PLAN.schedule)
    execution = Execution(PROGRAM, [W, X, X], Isolation.NONE).run(forward)
    execution.seed([jnp.float32(1)])
    execution.run(backward)
    expected = finished(PLAN.schedule)
    for v in PROGRAM.wrt:
        np.testing.assert_allclose(execution.gradient(v), expected.gradient(v), rtol=1e-6)
