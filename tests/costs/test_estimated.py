"""Costs of chains whose values and gradients wait: counted by hand, array by array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.waiting import waiting_bytes
from tests.support.waiting import waiting

DEPTH = 8
X = jax.ShapeDtypeStruct((64, 16), jnp.float32)
WS = [jax.ShapeDtypeStruct((16, 16), jnp.float32)] * DEPTH
N = X.size * 4


def layers(*again, skip=0):
    """A loss of tanh layers; outputs of the layers `again` are read by the last one, `skip` of them by the one before."""

    def loss(ws, x):
        outputs = []
        for k, w in enumerate(ws):
            x = jnp.tanh(x @ w)
            if k == DEPTH - 2 and skip:
                x = x * outputs[0]
            outputs.append(x)
        for k in again:
            x = x * outputs[k]
        return x.sum()

    return loss


@pytest.mark.parametrize("again", [(), (0,), (3,), (0, 3), (0, 3, 5)])
def test_gradients_that_start_waiting_are_counted(again):
    """The last backward meets its residuals, the cotangent that it makes, and for each output that it reads again that
    and its gradient, which waits from then on.
    """
    costs = cg.grad(layers(*again)).plan(WS, X).costs
    option = costs.stages[-1].options[0]
    cotangents = costs.cotangent_bytes(len(costs)) + costs.cotangent_bytes(len(costs) - 1)
    assert option.name == "all"
    assert cotangents + option.residual_bytes + option.backward_transient == (2 + 2 * len(again)) * N


def test_a_gradient_is_there_beside_the_sum_that_it_is_added_to():
    """In the backward of the first output's first reader: that output, the sum that waits for its gradient, the cotangent
    that arrives, what the product reads of it, and the gradient that is added to the sum.
    """
    costs = cg.grad(layers(0)).plan(WS, X).costs
    option = costs.stages[1].options[0]
    cotangents = costs.cotangent_bytes(2) + costs.cotangent_bytes(1)
    assert cotangents + option.residual_bytes + option.backward_transient == 5 * N


def test_what_waits_where():
    """The first output from its first reader's backward on, its gradient until that of its maker."""
    program = cg.grad(layers(0)).plan(WS, X).program
    # At boundary 1 the value is the boundary's own; the gradient waits until it is added to the other one.
    assert [[kind for _, kind in waiting(program, b)] for b in range(DEPTH + 1)] == [
        [],
        ["gradients"],
        *[["boundaries", "gradients"]] * (DEPTH - 2),
        ["boundaries"],
    ]
    assert waiting_bytes(program) == [0, N, *[2 * N] * (DEPTH - 2), N]


def test_gradients_that_are_added_to_others():
    once, twice = (cg.grad(loss).plan(WS, X).program for loss in (layers(0), layers(0, skip=1)))
    assert [len(s) for s in once.summed] == [0, 1, *[0] * (DEPTH - 2)]
    assert sum(map(len, twice.summed)) == 2
    assert sum(map(len, once.starting)) == sum(map(len, twice.starting)) == 1
