"""Gradients of picked entries: comparisons where the rest is elementwise work, scatters where it is there anyway."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.graph.evaluate import evaluate
from ckptgrad.stage.joint import joint
from ckptgrad.stage.picked import compared

X = np.random.default_rng(0).normal(size=(3, 2, 5))
# Some count from the end, some are outside.
PLACES = np.array([[0, 4], [-1, 2], [7, -9]])


def one_each(x):
    return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(x), PLACES[..., None], -1)[..., 0] * jnp.arange(1.0, 3.0))


PICKED = {
    "of a softmax": one_each,
    "alone": lambda x: jnp.sum(jnp.take_along_axis(x, PLACES[..., None], -1) ** 2),
    "by a mapped index": lambda x: jnp.sum(
        jnp.sin(jax.vmap(jax.vmap(lambda row, k: row[k]))(x, jnp.abs(PLACES) % 5)) * X[..., 0]
    ),
    "along the first axis": lambda x: jnp.sum(
        jnp.exp(jnp.take_along_axis(x, PLACES.T[:1, :1, None] + 0 * X[:1].astype(int), 0))
    ),
    "out of order": lambda x: jnp.sum(
        jnp.exp(jnp.take_along_axis(x.transpose(1, 2, 0), PLACES.T[:, None], 1)) * jnp.arange(6.0).reshape(2, 1, 3)
    ),
    "before the rest": lambda x: jax.nn.logsumexp(x, -1).sum() - one_each(x),
}
SCATTERED = {
    "several of a row": lambda x: jnp.sum(jnp.take_along_axis(x, np.stack([PLACES % 5, PLACES % 4], -1), -1) ** 2),
    "of a product": lambda x: (
        jnp.sum(jnp.tanh(x @ X[0].T @ X[0])) + jnp.sum(jnp.take_along_axis(x, PLACES[..., None] % 5, -1))
    ),
    "rows": lambda x: jnp.sum(x[jnp.array([0, 2, 2])] ** 2),
}


def joint_of(function):
    graph = cg.trace(function, X)
    return joint(graph, graph.inputs, graph.outputs)


@pytest.mark.parametrize("name", PICKED | SCATTERED)
def test_the_gradient_is_that_of_jax(x64, name):
    function = (PICKED | SCATTERED)[name]
    with jax.enable_x64():
        np.testing.assert_allclose(cg.grad(function)(X), jax.grad(function)(X), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["of a softmax", "alone", "before the rest", "along the first axis", "out of order"])
def test_one_entry_of_each_row_is_compared(x64, name):
    assert "scatter-add" not in [op.name for op in joint_of(PICKED[name]).operations]


@pytest.mark.parametrize("name", ["several of a row", "rows"])
def test_others_are_scattered(x64, name):
    assert "scatter-add" in [op.name for op in joint_of(SCATTERED[name]).operations]


def test_what_is_there_anyway_is_scattered_into():
    """Of a buffer that comes from outside few entries are touched."""

    def added(total, places, updates):
        numbers = jax.lax.ScatterDimensionNumbers((), (1,), (1,), (0,), (0,))
        return jax.lax.scatter_add(total, places, updates, numbers)

    args = jnp.zeros((3, 4)), jnp.array([[0], [3], [1]]), jnp.ones(3)
    assert compared(graph := cg.trace(added, *args)) is graph
    made = cg.trace(lambda total, *rest: added(jnp.sin(total), *rest), *args)
    assert "scatter-add" not in [op.name for op in compared(made).operations]
    np.testing.assert_array_equal(evaluate(compared(made), args)[0], evaluate(made, args)[0])


def test_windows_of_several_entries_are_scattered():
    def added(total, places, updates):
        numbers = jax.lax.ScatterDimensionNumbers((1,), (), (1,), (0,), (0,))
        return jax.lax.scatter_add(jnp.sin(total), places, updates, numbers)

    args = jnp.ones((3, 4)), jnp.array([[0], [2], [1]]), jnp.ones((3, 2))
    assert compared(graph := cg.trace(added, *args)) is graph
