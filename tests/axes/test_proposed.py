import jax
import jax.numpy as jnp

from ckptgrad.axes.proposed import proposals
from ckptgrad.graph.trace import trace


def test_examples_then_tokens_then_what_weights_share():
    graph = trace(lambda w, x: jax.nn.relu(x @ w), jnp.ones((3, 4)), jnp.ones((5, 2, 3)))
    w, x = graph.inputs
    assert proposals(graph)[:2] == [{x: 0}, {x: 1}]
    assert {w: 1} in proposals(graph)


def test_an_axis_that_cuts_two_inputs_is_proposed_once():
    graph = trace(lambda x, y: x * y, jnp.ones((5, 1)), jnp.ones((5, 1)))
    assert proposals(graph) == [{graph.inputs[0]: 0}]


def test_nothing_to_propose():
    assert proposals(trace(lambda x: jnp.sort(x), jnp.ones(4))) == []
