"""`saveable=`: only what a policy of JAX's allows is kept, and no gradient changes."""

from __future__ import annotations

import jax

import ckptgrad as cg
from tests.cases.marked_layers import WS, X, loss
from tests.support.compare import assert_same


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
