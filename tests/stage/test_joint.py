"""The joint graph and its partition: what is kept, read and done again, and in which order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.order import parameter_gradients_first
from ckptgrad.graph.evaluate import apply
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import Order, partition, run_operations
from ckptgrad.target.target import described
from tests.support.compare import quick

X = jnp.linspace(-1, 1, 12).reshape(4, 3)


def joint_of(fun, *args, seeds=None):
    graph = cg.trace(fun, *args)
    return joint(graph, graph.inputs, graph.outputs if seeds is None else [graph.outputs[k] for k in seeds])


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


def test_a_seed_that_stands_twice_receives_the_sum():
    j = joint_of(lambda x: (lambda y: (y, y))(jnp.sin(x)), X)
    part = partition(j, ())
    found = part.run_backward([], [X], [X, 2 * X])
    np.testing.assert_allclose(found[0], 3 * X * np.cos(X), rtol=1e-6)


def test_unwanted_outputs_are_not_made():
    j = joint_of(lambda x: (jnp.tanh(x), jnp.exp(x).sum()), X, seeds=[1])
    part = partition(j, ())
    assert {op.name for op in part.forward_run(unwanted=[j.outputs[0]]).operations} == {"exp", "reduce_sum"}
    outputs, _ = part.run_forward([X], unwanted=[j.outputs[0]])
    assert outputs[0] is None
    np.testing.assert_allclose(outputs[1], np.exp(X).sum(), rtol=1e-6)


def residual(a, b, x):
    return x + jax.nn.gelu(x @ a) @ b


def tall(rows, width=8, inner=32):
    shapes = (width, inner), (inner, width), (rows, width)
    return [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]


def waiting(fun, *args):
    """The shapes of (the gradient that waits, what it waits for) in a layer's backward."""
    ties = parameter_gradients_first(joint_of(fun, *args), described("cpu"))
    return sorted((op.outputs[0].shape, tie.first.outputs[0].shape, tie.operand.shape) for op, tie in ties.items())


@pytest.mark.parametrize(
    ("fun", "args", "pairs"),
    [
        # Of both products: the gradient of the hidden values waits for that of b.  That of x ends the backward.
        pytest.param(residual, tall(64), [((64, 32), (32, 8), (32, 8))], id="two products"),
        pytest.param(lambda a, b, x: residual(a, b, jnp.tanh(x @ jnp.eye(8))), tall(64), None, id="behind another"),
        # What would wait is not worth the copy of the parameter: less than two of it.
        pytest.param(residual, tall(15), [], id="a short stream"),
        pytest.param(residual, tall(16), [((16, 32), (32, 8), (32, 8))], id="of twice the parameter"),
        # Neither side is an argument.
        pytest.param(lambda a, b, x: jnp.sin(x @ a) @ jnp.sin(b), tall(64), [], id="no parameter"),
        pytest.param(lambda a, b, x: (jax.nn.gelu(x @ a) * 2).sum(), tall(64), [], id="one product"),
        # Through a view of the parameter.
        pytest.param(lambda a, b, x: jnp.sin(x @ a) @ a.T, tall(64), [((64, 32), (32, 8), (32, 8))], id="a view"),
    ],
)
def test_the_gradient_that_is_passed_on_waits_for_the_parameters(fun, args, pairs):
    found = waiting(fun, *args)
    if pairs is None:
        assert ((64, 8), (8, 32), (8, 32)) in found
    else:
        assert found == pairs


def test_the_order_is_kept_and_changes_no_number():
    def loss(a, b, x):
        return (x + jnp.sin(x @ a) @ b).sum()

    args = [jnp.sin(jnp.arange(s.size) * 1.7).reshape(s.shape).astype(s.dtype) for s in tall(64)]
    j = joint_of(loss, *args)
    seen, ran = [], []

    def after(first, operand):
        seen.append((first.shape, operand.shape))
        return operand

    def run(op, inputs):
        ran.append(op)
        return apply(op, inputs)

    ties = parameter_gradients_first(j, described("cpu"))
    ((waits, tie),) = ties.items()

    @quick
    def gradients(*args):
        env = dict(zip((*j.inputs, *j.cotangents), (*args, jnp.float32(1)), strict=True)) | j.constants
        run_operations(j.operations, env, Order(ties, after), run)
        return [env[atom] for atom in j.gradients]

    found = gradients(*args)
    assert seen == [((32, 8), (32, 8))]
    assert ran.index(tie.first) < ran.index(waits)
    assert len(ran) == len(set(ran)) == len(j.operations)
    for f, wanted in zip(found, quick(jax.grad(loss, (0, 1, 2)))(*args), strict=True):
        np.testing.assert_allclose(f, wanted, rtol=2e-5, atol=1e-5)


def test_the_order_saves_memory():
    """Each layer keeps two arrays of the inner width; at most half an array is alive besides, without the order more."""
    depth, (a, b, x) = 2, tall(1024, 16, 128)

    def loss(ws, x):
        for w in ws:
            x = residual(*w, x)
        return (x**2).sum()

    wide = 1024 * 128 * 4
    found = cg.grad(loss).compile([(a, b)] * depth, x).peak_bytes
    assert 2 * depth * wide < found < (2 * depth + 0.5) * wide
