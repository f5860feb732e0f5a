"""Loops left open in a joint graph, and the plans that are put in."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.graph.evaluate import read
from ckptgrad.loops.candidates import loop_candidates
from ckptgrad.loops.planned import BACKWARD, FORWARD, forward_of, open_loops, stored_by, with_plans
from ckptgrad.loops.reversals.reversal import ReversalError, registered
from ckptgrad.stage.partition import run_operations
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import described
from tests.support.compare import assert_same, quick
from tests.support.joint_graphs import joint_of
from tests.support.loop_plans import loop_of

ROOFLINE = Roofline(described("cpu"))
W, X = jnp.array([0.9, 0.5]), jnp.array([1.0, 2.0])


def scanned(w, x):
    return lax.scan(lambda c, _: (jnp.sin(c * w) + c, None), x, None, length=6)[0]


def two(w, x):
    return scanned(w, lax.while_loop(lambda c: c.sum() < 20, lambda c: c * (1 + w), jnp.cos(x)))


def planned_joint(fun):
    """The joint graph with open loops of a function of two arguments, and the same with the smallest plan of each."""
    loops = {}

    def plan(loop):
        return loops.setdefault(loop, min(loop_candidates(loop, ROOFLINE, None), key=lambda c: c.bytes))

    joint = joint_of(fun, W, X, planned=True)
    return joint, with_plans(joint, {loop: plan(loop) for loop in open_loops(joint)})


def test_a_loop_is_left_open_as_two_operations_with_a_token_between():
    joint, _ = planned_joint(two)
    names = [op.name for op in joint.operations]
    assert [names.count(name) for name in (FORWARD, BACKWARD, "scan", "while")] == [2, 2, 0, 0]
    assert [loop.length for loop in open_loops(joint)] == [None, 6]
    forward = next(op for op in joint.operations if op.name == FORWARD)
    backward = [op for op in joint.operations if op.name == BACKWARD][-1]
    assert forward.outputs[-1] in backward.inputs


def test_a_plan_stores_arrays_in_the_place_of_the_token():
    joint, planned = planned_joint(two)
    stored = stored_by(planned)
    assert [*stored] == open_loops(joint)
    assert stored_by(joint) == {}
    assert open_loops(planned) == []
    (backward,) = [op for op in planned.operations if op.name == BACKWARD and op.params["loop"].length == 6]
    assert {*stored[backward.params["loop"]]} <= {*backward.inputs}
    assert (planned.inputs, planned.outputs, planned.gradients) == (joint.inputs, joint.outputs, joint.gradients)


def test_costs_of_a_planned_loop_are_those_of_its_plan():
    _, planned = planned_joint(scanned)
    (loop,) = stored_by(planned)
    plan = min(loop_candidates(loop, ROOFLINE, None), key=lambda c: c.bytes)
    forward, backward = [op for op in planned.operations if op.name in (FORWARD, BACKWARD)]
    assert (forward.known_cost.seconds, backward.known_cost.seconds) == (plan.forward_seconds, plan.backward_seconds)


def test_the_joint_graph_with_plans_gives_results_and_gradients():
    _, planned = planned_joint(two)

    def ours(w, x):
        env = {**planned.constants, **dict(zip((*planned.inputs, *planned.cotangents), (w, x, X), strict=True))}
        run_operations(planned.operations, env)
        return [read(env, a) for a in (*planned.outputs, *planned.gradients)]

    def theirs(w, x):
        grow = lambda w: lambda i, c: jnp.where(c.sum() < 20, c * (1 + w), c)
        y, pull = jax.vjp(lambda w, x: scanned(w, lax.fori_loop(0, 20, grow(w), jnp.cos(x))), w, x)
        return [y, *pull(X)]

    assert_same(*quick(lambda w, x: (ours(w, x), theirs(w, x)))(W, X), scale=40)


def test_a_planned_forward_is_differentiated_as_the_plain_loop():
    """No derivative flows through what is stored."""
    loop, operands = loop_of(scanned, W, X)
    plan = min(loop_candidates(loop, ROOFLINE, None), key=lambda c: c.bytes)
    run = forward_of(plan.reversal, loop)
    tangents = [jnp.ones_like(x) for x in operands]

    def both(operands):
        results, moved = jax.jvp(lambda *xs: run(*xs), operands, tangents)
        wanted = jax.jvp(lambda *xs: loop.definition(*xs), operands, tangents)
        return (results[:1], moved[:1]), wanted, moved[1:]

    ours, theirs, through_stored = quick(both)(operands)
    assert_same(ours, theirs, scale=8)
    assert all(not np.any(t) for t in through_stored if t.dtype != jax.dtypes.float0)
    assert len(through_stored) == len(plan.reversal.stored(loop)) > 0


def test_a_way_that_does_not_take_the_loop_is_refused():
    loop, _ = loop_of(lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x), X)
    with pytest.raises(ReversalError, match="takes Scan, not While"):
        forward_of(registered()["store_all"].way(None), loop)
