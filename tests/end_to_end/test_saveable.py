"""`saveable=`: only what a policy of JAX's allows is kept, and no gradient changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

import ckptgrad as cg
from tests.support.compare import assert_same

WS = [jnp.eye(16) * 0.3 + 0.01 * k for k in range(10)]
X = jnp.linspace(-1, 1, 256 * 16).reshape(256, 16)


def layer(w, x):
    h = checkpoint_name(x @ w, "product")
    return x + checkpoint_name(jnp.tanh(jnp.sin(h)), "branch") @ w.T


def loss(ws, x):
    for w in ws:
        x = layer(w, x)
    return (x**2).mean()


def kept(**options):
    plan = cg.plan(loss, WS, X, **options)
    found = set()
    for kind in plan.program.kinds:
        for option in kind.options:
            made = {v: op.name for op in option.partition.joint.operations for v in op.outputs}
            found |= {made[v] for v in option.partition.residuals}
    return found


def test_only_what_may_be_saved_is_kept():
    policies = jax.checkpoint_policies
    assert {"tanh", "cos", "dot_general"} & kept()
    assert kept(saveable=policies.dots_saveable) <= {"dot_general"}
    assert kept(saveable=policies.nothing_saveable) == set()
    assert kept(saveable=policies.save_only_these_names("product")) == {"name"}
    assert kept(saveable=policies.save_only_these_names("no such name")) == set()


def test_saveable_changes_no_gradient():
    wanted = jax.grad(loss)(WS, X)
    for saveable in (jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.save_only_these_names("branch")):
        assert_same(cg.grad(loss, saveable=saveable)(WS, X), wanted, scale=8)
        assert_same(cg.grad(loss, saveable=saveable, budget="0.5x")(WS, X), wanted, scale=8)
