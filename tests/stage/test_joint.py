"""The joint graph of a stage: forward and backward in one, from inputs and cotangents to outputs and gradients."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from tests.support.joint_graphs import joint_of

X = jnp.linspace(-1, 1, 12).reshape(4, 3)


def test_a_seed_that_stands_twice_receives_the_sum():
    j = joint_of(lambda x: (lambda y: (y, y))(jnp.sin(x)), X)
    part = partition(j, ())
    found = part.run_backward([], [X], [X, 2 * X])
    np.testing.assert_allclose(found[0], 3 * X * np.cos(X), rtol=1e-6)


def test_forward_and_backward_are_told_apart_by_the_cotangents():
    j = joint_of(lambda x, y: jnp.sin(x) * y, 2.0, 3.0)
    assert {op.name for op in j.forward_operations} == {"sin", "cos", "mul"}
    assert {op.name for op in j.backward_operations} == {"mul"}
    assert len(j.forward_operations) + len(j.backward_operations) == len(j.operations)
    # The backward reads y, the sine and the cosine; not the product.
    made = {v: op.name for op in j.forward_operations for v in op.outputs}
    assert sorted(made.get(v, "input") for v in j.frontier) == ["cos", "input", "sin"]


def test_an_input_that_no_seed_depends_on_has_no_gradient():
    j = joint_of(lambda x, y: (jnp.sin(x), jnp.cos(y)), 2.0, 3.0, seeds=[0])
    assert [g is None for g in j.gradients] == [False, True]
    assert len(j.cotangents) == 1


def test_gradients_are_added_to_totals():
    graph = cg.trace(lambda x, y: x * y, 2.0, 3.0)
    j = joint(graph, graph.inputs, graph.outputs, totals=graph.inputs[:1])
    part = partition(j, ())
    values = dict(zip(j.inputs, (2.0, 3.0), strict=True))
    gradients = part.run_backward([], [values[v] for v in part.reads], [jnp.float32(10), jnp.float32(100)])
    assert [float(g) for g in gradients] == [100 + 30, 20]


def test_an_output_that_depends_on_a_cotangent_is_late():
    j = joint_of(lambda x: (x * x).sum(), X)
    (output,) = j.outputs
    assert j.late == ()
    (gradient,) = j.gradients
    late = replace(j, outputs=(output, gradient))
    assert late.late == (gradient,)
    part = partition(late, ())
    assert part.run_forward([X])[0][1] is None
    assert {*part.backward_run.makes} == {gradient}
