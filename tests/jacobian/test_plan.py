"""How the Jacobian of a graph will be computed."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.jacobian.plan import plan_product
from ckptgrad.jacobian.segments import cut_where_small

U, V, X = jnp.ones((3, 100)), jnp.ones((100, 3)), jnp.ones(100)


def plan_of(fun, mode="auto"):
    graph = cg.trace(fun, X)
    return plan_product(cut_where_small(graph, graph.inputs), mode)


def waisted(x):
    """From 100 numbers to 3 and back, by products of 300 multiplications each."""
    return V @ (U @ x)


def test_numbers_by_hand():
    plan = plan_of(waisted)
    assert plan.sizes == (100, 3, 100)
    assert plan.forward == plan.reverse == 100 * 600
    # In reverse from the waist to the input, then 100 columns forward from there.
    assert plan.multiplications == 3 * 300 + 100 * 300
    assert str(plan).splitlines() == [
        "(J1 > (I < J0))",
        "boundaries: 100 3 100",
        "multiplications: 30,900; plain forward 60,000, plain reverse 60,000",
    ]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_one_mode_alone(mode):
    plan = plan_of(lambda x: jnp.sin(x).sum(), mode)
    assert plan.bracket.way == mode
    assert plan.multiplications == getattr(plan, mode)
    assert plan.forward == 100 * plan.reverse


def test_nothing_depends_on_the_input():
    plan = plan_of(lambda x: jnp.ones(3))
    assert (plan.sizes, plan.multiplications, plan.forward, plan.reverse) == ((0,), 0, 0, 0)
