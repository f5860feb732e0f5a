"""In which of its forms a gradient is written."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.chain.program import build_program
from ckptgrad.graph.evaluate import evaluate
from ckptgrad.graph.graph import Graph
from ckptgrad.rules.forms import gradients_in, is_wanted
from ckptgrad.target.attached import attached
from ckptgrad.target.platform import Form, platform_named
from tests.support.arrays import normal

X = normal(0, 6, 9)


def pooled(window, stride, padding):
    def loss(x):
        return (lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding) ** 2).sum()

    return loss


def joint_for(chip, loss):
    target = replace(attached(), platform=platform_named(chip), attached=False)
    graph = cg.trace(loss, X)
    (stage,) = build_program(graph, graph.inputs, graph.outputs, target, cuts=[]).stages
    return stage.kind.joint


def test_a_form_is_wanted_where_it_is_the_targets():
    assert all(map(is_wanted, Form))
    with gradients_in(frozenset({Form.AS_MATRICES})):
        assert [form for form in Form if is_wanted(form)] == [Form.AS_MATRICES]
        with gradients_in(frozenset(Form)):
            assert all(map(is_wanted, Form))
    assert all(map(is_wanted, Form))


@pytest.mark.parametrize(("chip", "scatters"), [("tpu", 1), ("gpu", 0), ("cpu", 0)])
def test_the_gradient_of_a_maximum_over_windows_has_the_form_for_the_target(chip, scatters):
    names = [op.name for op in joint_for(chip, pooled((2, 2), (2, 2), "VALID")).operations]
    assert names.count("select_and_scatter_add") == scatters


@pytest.mark.parametrize(("chip", "devices", "axes"), [("gpu", 1, 1), ("gpu", 8, 2), ("cpu", 1, 1), ("tpu", 1, 2)])
def test_batched_products_are_those_of_matrices_where_no_device_has_a_part(chip, devices, axes):
    """Queries that share keys in groups: two axes are contracted for the gradient of the keys, of which one may be cut."""
    (device,) = attached().devices
    target = replace(attached(), platform=platform_named(chip), devices=(device,) * devices, attached=False)
    queries, keys = jnp.ones((2, 3, 5, 4)), jnp.ones((2, 6, 4))
    graph = cg.trace(lambda q, k: jnp.einsum("gqsd,gtd->gqst", q, k).sum(), queries, keys)
    (stage,) = build_program(graph, graph.inputs, graph.outputs, target, cuts=[]).stages
    products = [op for op in stage.kind.joint.operations if op.name == "dot_general"]
    assert max(len(op.params["dimension_numbers"][0][0]) for op in products) == axes


@pytest.mark.parametrize("window", [((2, 2), (2, 2), "VALID"), ((3, 3), (2, 1), "SAME"), ((1, 3), (1, 2), ((1, 0), (0, 2)))])
def test_both_forms_are_the_same_gradient(window):
    loss = pooled(*window)
    wanted = jax.grad(loss)(X)
    for chip in ("tpu", "cpu"):
        joint = joint_for(chip, loss)
        both = Graph((*joint.inputs, *joint.cotangents), joint.gradients, joint.operations, joint.constants)
        (found,) = evaluate(both, [X, jnp.ones(())])
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
