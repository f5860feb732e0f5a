"""What the sweep costs: each edge once, whatever the number of paths, at any depth; what has no tangents."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.autodiff.reverse import backpropagate, forward, is_differentiable


def sweep(fun, *args, wrt=None):
    """The tape after a sweep, and the gradients."""
    graph = cg.trace(fun, *args)
    wrt = list(graph.inputs) if wrt is None else [graph.inputs[i] for i in wrt]
    tape = forward(graph, args, wrt)
    found = backpropagate(tape, {v: jnp.ones(v.shape, v.dtype) for v in graph.outputs}, wrt)
    return tape, found


@pytest.mark.parametrize("n", [1, 2, 17, 300])
def test_a_chain_of_n_operations_costs_n_rule_calls_and_n_edges(n):
    def chain(x):
        for _ in range(n):
            x = jnp.sin(x)
        return x

    tape, _ = sweep(chain, 0.5)
    assert (tape.rule_calls, tape.edges_visited) == (n, n)


def double(n):
    """2**n paths over 3 n operations and 4 n edges."""

    def fun(x):
        for _ in range(n):
            x = jnp.sin(x) + jnp.cos(x)
        return x

    return fun


@pytest.mark.parametrize("n", [1, 10, 60])
def test_exponentially_many_paths_cost_their_edges_only(n):
    tape, (found,) = sweep(double(n), 0.3)
    assert tape.edges_visited == tape.graph.edge_count == 4 * n
    assert tape.rule_calls == 3 * n
    assert found == pytest.approx(jax.grad(double(n))(0.3).item(), rel=1e-4)


def test_inputs_without_a_wanted_gradient_cost_nothing():
    def fun(a, b):
        return jnp.sin(a) * jnp.cos(jnp.cos(b))

    tape, _ = sweep(fun, 1.0, 2.0, wrt=[0])
    assert (tape.rule_calls, tape.edges_visited) == (2, 2)
    assert not any(v in tape.active for v in cg.get_consumers(tape.graph.inputs[1], tape.graph))


def test_results_that_no_seed_needs_cost_nothing():
    graph = cg.trace(lambda x: (jnp.sin(x), jnp.exp(jnp.cos(x))), 1.0)
    tape = forward(graph, [1.0], graph.inputs)
    backpropagate(tape, {graph.outputs[0]: jnp.ones(())}, graph.inputs)
    assert (tape.rule_calls, tape.edges_visited) == (1, 1)


def test_nothing_flows_back_through_zero_rules():
    tape, (found,) = sweep(lambda x: jnp.floor(jnp.sin(x)), 1.0)
    assert (tape.rule_calls, tape.edges_visited, found) == (0, 0, None)


def test_ten_thousand_operations_do_not_recurse():
    graph = cg.trace(lambda x: deep(x, 10_000), 0.5)
    assert len(graph.operations) == 10_000
    tape = forward(graph, [jnp.float32(0.5)], graph.inputs)
    (found,) = backpropagate(tape, {graph.outputs[0]: jnp.float32(1)}, graph.inputs)
    assert tape.rule_calls == 10_000
    assert found == pytest.approx(1.0)


def deep(x, n):
    for _ in range(n):
        x = -x
    return x


def test_a_dtype_whose_tangents_have_another_is_refused():
    """A key's tangents are float0; a user's own dtype may say otherwise, and zeros would be silently wrong."""
    keys = jax.typeof(jax.random.key(0))
    tangents = jax.ShapeDtypeStruct((), jnp.float32)
    assert not is_differentiable(keys)
    with pytest.raises(cg.NoDerivativeError, match="extended dtype"):
        is_differentiable(SimpleNamespace(dtype=keys.dtype, to_tangent_aval=lambda: tangents))
