"""What is kept where no plan chooses."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.stage.joint import joint
from ckptgrad.stage.kept_plainly import kept_plainly

X = jnp.ones((4, 6))


@pytest.mark.parametrize(
    ("fun", "kept"),
    [
        # One minus the square of what is kept.
        (jnp.tanh, ["tanh"]),
        # Of each what it returns: neither is cheap to make of the other.
        (lambda x: jnp.exp(3 * jnp.tanh(x)), ["exp", "tanh"]),
        # What is read of a reshape is what it shows.
        (lambda x: x.reshape(8, 3) * x.reshape(8, 3), ["input"]),
        # What is made of a product that is not there is kept itself.
        (lambda x: (x @ x.T) ** 2, ["input", "mul"]),
    ],
)
def test_what_is_kept(fun, kept):
    graph = cg.trace(fun, X)
    joined = joint(graph, graph.inputs, graph.outputs)
    makers = {v: op.name for op in joined.operations for v in op.outputs}
    assert sorted(makers.get(v, "input") for v in kept_plainly(joined)) == sorted(kept)
