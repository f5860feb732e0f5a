"""A narrower dtype is suggested where a floor is lower with it, and not where a target computes in wide copies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.target.target import described


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(dtype, target=None):
    arguments = [jax.ShapeDtypeStruct((16, 16), dtype)] * 6, jax.ShapeDtypeStruct((256, 16), dtype)
    return cg.plan(loss, *arguments, costs="estimate", target=target)


def said(plan):
    return [advice for advice in plan.advice if advice.kind == "narrower"]


@pytest.mark.parametrize(
    ("wide", "narrow", "target"), [("float64", "float32", None), ("float32", "bfloat16", described("cuda"))]
)
def test_what_is_wide_takes_half_as_much_in_a_narrower_dtype(wide, narrow, target):
    with jax.enable_x64(wide == "float64"):
        plan, narrower = plan_of(wide, target), plan_of(narrow, target)
    (advice,) = said(plan)
    assert (advice.figures["dtype"], advice.figures["narrower"]) == (wide, narrow)
    results = plan.program.gradient_bytes + plan.program.output_bytes
    halved = plan.floor.bytes - results - advice.figures["bytes"] / 2 + results / 2
    assert narrower.floor.bytes == pytest.approx(halved, rel=0.02)


def test_not_where_products_are_computed_in_wide_copies():
    """A CPU's compiler converts operands of 16 bits to 32."""
    assert said(plan_of("float32")) == []
    assert plan_of("bfloat16").floor.bytes > plan_of("float32").floor.bytes / 2


def test_nothing_is_said_of_what_is_narrow_already():
    assert said(plan_of("bfloat16", described("cuda"))) == []
