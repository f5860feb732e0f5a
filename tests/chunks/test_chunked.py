"""A stage over chunks gives what it gives whole: outputs, gradients, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.chunks.chunked import chunked_joint
from ckptgrad.chunks.markers import Floors, loop_of, with_costs
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from ckptgrad.target.roofline import Roofline
from tests.support.rows import quick_rows


def mean_loss(w, x, y):
    """A mean over examples and tokens, and a ratio of totals."""
    h = x + jnp.tanh(x @ w.T) @ w
    each = jax.nn.logsumexp(h, -1) - jnp.sum(h * y, -1)
    return jnp.mean(each) / jnp.sum(each**2)


def layer(w, x, y):
    """No totals: all that leaves is cut."""
    return x + jax.nn.gelu(x @ w.T) @ w * y


@jax.custom_vjp
def clipped(x):
    return x * 2


clipped.defvjp(lambda x: (x * 2, jnp.cos(x)), lambda cosine, ct: (ct * cosine,))


def custom(w, x, y):
    return jnp.sum(clipped(x @ w.T) ** 2) + jnp.sum(y[..., :1])


ARGS = [np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(7, 5), (6, 4, 5), (6, 4, 5)])]


def split_joint(function, axis, entries):
    """The stage whole, over chunks, and the values of its arguments."""
    values = [jnp.asarray(a) for a in ARGS]
    graph = cg.trace(function, *values)
    wrt = [graph.inputs[0], graph.inputs[1]]
    found = chunkable(graph, {graph.inputs[1]: axis})
    assert found is not None
    whole = joint(graph, wrt, graph.outputs)
    chunked = chunked_joint(graph, wrt, graph.outputs, found, entries, whole)
    assert chunked is not None
    return whole, with_costs(chunked, Roofline(cg.target("cpu")), Floors()), values


def run(joint, values, cotangent):
    part = partition(joint, ())
    outputs, residuals = part.run_forward(values)
    reads = [values[joint.inputs.index(v)] for v in part.reads]
    return outputs, part.run_backward(residuals, reads, [cotangent])


@pytest.mark.parametrize(
    ("function", "axis", "entries"),
    quick_rows(
        [(f, *cut) for f in (mean_loss, layer, custom) for cut in ((0, 1), (0, 2), (0, 4), (1, 3))],
        (mean_loss, 1, 3),
        (layer, 0, 4),
        (custom, 0, 4),
    ),
)
def test_outputs_and_gradients_are_those_of_the_whole_stage(x64, function, axis, entries):
    """Also where the last chunk has fewer entries."""
    whole, chunked, values = split_joint(function, axis, entries)
    cotangent = jnp.full(whole.outputs[0].shape, 1.5)
    expected, found = run(whole, values, cotangent), jax.jit(lambda xs: run(chunked, xs, cotangent))(values)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("function", [mean_loss, layer])
def test_a_chunked_stage_is_differentiated_by_its_definition(x64, function):
    whole, chunked, values = split_joint(function, 0, 4)
    cotangent = jnp.full(whole.outputs[0].shape, 0.5)

    def second(joint):
        return cg.grad(lambda w: jnp.sum(jnp.sin(run(joint, [w, *values[1:]], cotangent)[1][0])))(values[0])

    np.testing.assert_allclose(second(chunked), second(whole), rtol=1e-11, atol=1e-13)


def correlated(x, y):
    """Every row of x is needed for each row of it."""
    return jnp.sum(jnp.einsum("td,sd->ts", x, x) ** 2 * y[:, None])


def turned(x, y):
    """The same, by a view of all rows."""
    return jnp.sum((x @ x.T) ** 2 * y[:, None])


def along_two_axes(x, y):
    """A part of the entries of y needs rows of x, and columns."""
    return jnp.sum(y[:, None] * jnp.sin(x) * jnp.cos(x.T))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("function", [correlated, turned, along_two_axes])
def test_what_is_read_in_parts_and_in_another_way_gets_its_whole_gradient(x64, function, last):
    x, y = (jnp.asarray(np.random.default_rng(k).normal(size=shape)) for k, shape in enumerate([(4, 4), (4,)]))
    graph = cg.trace(function, x, y)
    found = chunkable(graph, {graph.inputs[1]: 0})
    assert found is not None
    assert bool(found.copies) == (function is not turned)
    whole = joint(graph, graph.inputs, graph.outputs)
    chunked = chunked_joint(graph, graph.inputs, graph.outputs, found, 3, whole, last=last)
    assert chunked is not None
    _, gradients = run(with_costs(chunked, Roofline(cg.target("cpu")), Floors()), [x, y], jnp.float64(1.5))
    for a, b in zip(jax.grad(lambda *xs: 1.5 * function(*xs), (0, 1))(x, y), gradients, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)


def test_joint_graphs_share_what_passes_the_edges_of_the_stage():
    whole, chunked, _ = split_joint(layer, 0, 2)
    assert chunked.inputs == whole.inputs
    assert chunked.outputs == whole.outputs
    assert chunked.gradients == whole.gradients
    assert [loop_of(op).count for op in chunked.operations if loop_of(op)] == [3]
