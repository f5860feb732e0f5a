"""A plan run stage by stage shows all that is held after each action, and nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.execution.observed import run_observed
from ckptgrad.planning import Free

DEPTH = 4
X, WS = jnp.linspace(-1, 1, 64).reshape(16, 4), [jnp.eye(4) * 0.5] * DEPTH


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return x.sum()


def observed(policy):
    """The plan, and the arrays that were held after each of its actions."""
    plan, held = cg.plan(loss, WS, X, policy=policy), []
    run_observed(plan.program, jax.tree.leaves((WS, X)), plan.schedule, lambda arrays: held.append(list(arrays)))
    return plan, held


@pytest.mark.parametrize("policy", ["store_all", "recompute_all"])
def test_each_action_is_shown_and_gradients_are_left_at_the_end(policy):
    plan, held = observed(policy)
    assert len(held) == len(plan.schedule)
    arguments = {id(x) for x in jax.tree.leaves((WS, X))}
    assert not any(id(x) in arguments for arrays in held for x in arrays)
    for gradient in jax.grad(loss)(WS, X):
        assert any(x.shape == gradient.shape and jnp.allclose(x, gradient, rtol=1e-5) for x in held[-1])


def test_a_boundary_that_is_freed_is_held_no_longer():
    plan, held = observed("recompute_all")
    streams = [sum(x.shape == X.shape for x in arrays) for arrays in held]
    assert streams[DEPTH - 2] == DEPTH - 1
    fell = {a.boundary: streams[k - 1] - streams[k] for k, a in enumerate(plan.schedule) if isinstance(a, Free)}
    # The first boundary is the argument.
    assert fell == {0: 0} | dict.fromkeys(range(1, DEPTH), 1)
