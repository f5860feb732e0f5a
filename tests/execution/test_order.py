"""The backward makes a layer's parameter gradient before the gradient that it passes on, which holds less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.order import parameter_gradients_first
from ckptgrad.graph.evaluate import apply
from ckptgrad.stage.partition import Order, run_operations
from ckptgrad.target.target import described
from tests.support.compare import quick
from tests.support.joint_graphs import joint_of


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


@pytest.mark.parametrize(("dtype", "count"), [(jnp.float32, 1), (jnp.bfloat16, 0), (jnp.float16, 0)])
def test_in_half_precision_the_compiler_chooses_the_order(dtype, count):
    assert len(waiting(residual, *(jax.ShapeDtypeStruct(s.shape, dtype) for s in tall(64)))) == count


def test_the_order_is_kept_and_changes_no_number():
    def loss(a, b, x):
        return (x + jnp.sin(x @ a) @ b).sum()

    args = [jnp.sin(jnp.arange(s.size) * 1.7).reshape(s.shape).astype(s.dtype) for s in tall(64)]
    j = joint_of(loss, *args)
    seen, ran = [], []

    def after(first, operand):
        seen.append((first.shape, operand.shape))
        return first, operand

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
