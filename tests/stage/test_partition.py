"""The partition of a joint graph: what is kept, read and done again."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ckptgrad.stage.partition import partition
from tests.support.joint_graphs import joint_of

X = jnp.linspace(-1, 1, 12).reshape(4, 3)


def made_by(j):
    return {v: op.name for op in j.operations for v in op.outputs}


def test_what_the_backward_does_not_read_is_not_kept():
    j = joint_of(lambda x: (jnp.sin(x) * 2 + jnp.cos(x)).sum(), X)
    part = partition(j, [v for op in j.forward_operations for v in op.outputs])
    assert sorted(made_by(j)[v] for v in part.residuals) == ["cos", "sin"]
    assert part.recomputed == ()
    assert part.reads == ()


def test_nothing_kept_is_all_done_again_from_the_inputs():
    j = joint_of(lambda x: (jnp.sin(x) * 2 + jnp.exp(x)).sum(), X)
    part = partition(j, ())
    assert part.reads == j.inputs
    assert sorted(op.name for op in part.recomputed) == ["cos", "exp"]
    # The forward does nothing for the backward alone.
    assert "cos" not in [op.name for op in part.forward_operations]


def test_inputs_and_repeats_are_no_residuals():
    j = joint_of(lambda x: (x * jnp.sin(x)).sum(), X)
    (sine,) = (op.outputs[0] for op in j.forward_operations if op.name == "sin")
    assert partition(j, [*j.inputs, sine, sine]).residuals == (sine,)


def test_a_gradient_that_is_a_forward_value_is_kept():
    """That of x in x * sin(y), for a cotangent of no matter, is the sine itself."""
    j = joint_of(lambda x, y: x * jnp.sin(y), 2.0, 3.0)
    part = partition(j, [v for op in j.forward_operations for v in op.outputs])
    outputs, residuals = part.run_forward([2.0, 3.0])
    found = part.run_backward(residuals, [2.0 if v is j.inputs[0] else 3.0 for v in part.reads], [1.0])
    np.testing.assert_allclose(outputs, [2 * np.sin(3.0)], rtol=1e-6)
    np.testing.assert_allclose(found, [np.sin(3.0), 2 * np.cos(3.0)], rtol=1e-6)


def test_unwanted_outputs_are_not_made():
    j = joint_of(lambda x: (jnp.tanh(x), jnp.exp(x).sum()), X, seeds=[1])
    part = partition(j, ())
    assert {op.name for op in part.forward_run(unwanted=[j.outputs[0]]).operations} == {"exp", "reduce_sum"}
    outputs, _ = part.run_forward([X], unwanted=[j.outputs[0]])
    assert outputs[0] is None
    np.testing.assert_allclose(outputs[1], np.exp(X).sum(), rtol=1e-6)
