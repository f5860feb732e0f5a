"""Gradients that lie on more devices than their arguments are named, and following the advice makes them smaller."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg

MESH = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def constrained(ws, x):
    return loss(jax.lax.with_sharding_constraint(ws, NamedSharding(MESH, P("data"))), x)


def arguments(spec):
    weights = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(MESH, spec))
    return [weights] * 4, jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(MESH, P("data")))


def said(plan):
    return [advice for advice in plan.advice if advice.kind == "shardings"]


@pytest.mark.parametrize(
    ("function", "spec", "gradient_bytes"),
    [(loss, P("data"), 4 * 2**14), (constrained, P("data"), 4 * 2**11), (loss, P(), 4 * 2**14)],
)
def test_gradients_of_arguments_that_are_cut(function, spec, gradient_bytes):
    plan = cg.plan(function, *arguments(spec), costs="estimate")
    assert plan.program.gradient_bytes == gradient_bytes
    if function is constrained or spec == P():
        assert said(plan) == []
        return
    (advice,) = said(plan)
    assert advice.figures == {"gradients": 4, "bytes": 4 * 2**14, "bytes_as_arguments": 4 * 2**11}
    assert "4 gradients lie on more devices than their arguments" in advice.text
    assert "64.0 KiB a device, 8.0 KiB where they lie as these" in advice.text


def test_nothing_is_said_on_one_device():
    assert said(cg.plan(loss, [jnp.ones((64, 64))] * 4, jnp.ones((64, 64)), costs="estimate")) == []
