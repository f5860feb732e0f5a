"""A schedule run action by action: what is held, what an action needs, and gradients that several stages add to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.interpreter import Execution, StageFunctions, split_at_backward, stage_functions
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


def test_runs_of_a_kind_are_made_once():
    kind = PROGRAM.stages[1].kind
    functions = stage_functions(kind)
    assert stage_functions(kind) is functions is stage_functions(kind, kind.target.platform.isolation)
    assert functions.forward(0) is functions.forward(0)
    assert functions.backward(0) is not functions.backward(0, (0,))


def test_in_a_program_of_open_stages_a_backward_repeats_nothing():
    """Whatever the option, backwards read what the forward made; codes and what a user says may be kept stay as they are."""

    def deep(w, x):
        return (jnp.sin(jnp.tanh(x @ w) @ w) ** 2).sum()

    kind = cg.plan(deep, W, X, policy="recompute_all").program.kinds[0]
    functions = StageFunctions(kind, Isolation.NONE, opened=True)
    assert any(option.partition.recomputed for option in kind.options)
    assert not any(functions.part(keep).recomputed for keep in range(len(kind.options)))
    named = cg.plan(deep, W, X, saveable=jax.checkpoint_policies.nothing_saveable).program.kinds[0]
    asked = StageFunctions(named, Isolation.NONE, opened=True)
    assert [asked.part(keep) for keep in range(len(named.options))] == [option.partition for option in named.options]


def test_open_stages_have_the_gradients_of_fenced_ones():
    forward, backward = split_at_backward(PLAN.schedule)
    execution = Execution(PROGRAM, [W, X, X], Isolation.NONE).run(forward)
    execution.seed([jnp.float32(1)])
    execution.run(backward)
    expected = finished(PLAN.schedule)
    for v in PROGRAM.wrt:
        np.testing.assert_allclose(execution.gradient(v), expected.gradient(v), rtol=1e-6)
