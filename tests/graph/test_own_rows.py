"""Entries read or written one in each row: their counter is a batching axis where that is proved, and they do the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from tests.support.compare import assert_same

B, T, V = 6, 4, 5
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, V)), jnp.float32)
H = jnp.asarray(np.random.default_rng(1).normal(size=(B, T, V)), jnp.float32)
S = jnp.asarray(np.random.default_rng(2).normal(size=(B, B)), jnp.float32)
# Some count from the end; of the last some are outside.
Y = jnp.array([0, 4, -1, 3, -5, 2])
Z = jnp.arange(B * T).reshape(B, T) % 7 - 2
OUTSIDE = jnp.array([0, 4, -1, 7, -9, 2])

# The function, its arguments, and how many axes become batching axes.
OWN = {
    "labels": (lambda x, y: x[jnp.arange(B), y], (X, Y), 1),
    "length of the labels": (lambda x, y: x[jnp.arange(len(y)), y], (X, Y), 1),
    "numpy's counter": (lambda x, y: x[np.arange(B), y], (X, Y), 1),
    "counter in 8 bits": (lambda x, y: x[jnp.arange(B, dtype=jnp.int8), y], (X, Y), 1),
    "transposed": (lambda x, y: x.T[y, jnp.arange(B)], (X, Y), 1),
    "filled": (lambda x, y: x.at[jnp.arange(B), y].get(mode="fill", fill_value=2.0), (X, OUTSIDE), 1),
    "clipped": (lambda x, y: x.at[jnp.arange(B), y].get(mode="clip"), (X, OUTSIDE), 1),
    "a row of tokens": (lambda h, y: h[jnp.arange(B), y % T], (H, Y), 1),
    "tokens": (lambda h, z: h[jnp.arange(B)[:, None], jnp.arange(T)[None], z], (H, Z), 2),
    "an open mesh": (lambda h, z: h[(*jnp.ogrid[:B, :T], z)], (H, Z), 2),
    "some of each row": (lambda x, z: x[jnp.arange(B)[:, None], z], (X, Z), 1),
    "flattened": (lambda h, z: h.reshape(B * T, V)[jnp.arange(B * T), z.reshape(-1)], (H, Z), 1),
    "two others": (lambda h, y: h[jnp.arange(B), y % T, y], (H, Y), 1),
    "inside a jit": (lambda x, y: jax.jit(lambda a, k: a[jnp.arange(B), k])(x, y), (X, Y), 1),
    "the last axis of the indices": (lambda s, y: s[jnp.arange(B)[None], (y[:, None] + y) % B], (S, Y), 1),
    "the diagonal": (lambda s, y: s[jnp.arange(B), jnp.arange(B)] * y, (S, Y), 1),
}
OTHERS = {
    "backward": (lambda x, y: x[jnp.arange(B)[::-1], y], (X, Y)),
    "one further": (lambda x, y: x[(jnp.arange(B) + 1) % B, y], (X, Y)),
    "fewer": (lambda x, y: x[jnp.arange(B - 1), y[:-1]], (X, Y)),
    "every second": (lambda x, y: x[jnp.arange(0, B, 2), y[::2]], (X, Y)),
    "numbers of the user": (lambda x, y: x[jnp.array([0, 1, 2, 3, 4, 4]), y], (X, Y)),
    "an argument": (lambda x, y: x[jnp.abs(y) % B, y], (X, Y)),
    "from the end": (lambda x, y: x[jnp.arange(B) - B, y], (X, Y)),
    "more than its integers count": (
        lambda x, y: jnp.tile(x, (25, 1))[jnp.arange(150).astype(jnp.int8).astype(int), jnp.tile(y, 25)],
        (X, Y),
    ),
    "a counter alone": (lambda x, y: x[jnp.arange(B)] * y[:, None], (X, Y)),
}
ALL = {name: case[:2] for name, case in OWN.items()} | OTHERS


def batching(function, args):
    """The batching axes of the gathers of a function."""
    gathers = [op for op in cg.trace(function, *args).operations if op.name == "gather"]
    return sum(len(op.params["dimension_numbers"].operand_batching_dims) for op in gathers)


@pytest.mark.parametrize(("function", "args", "count"), OWN.values(), ids=OWN)
def test_counters_become_batching_axes(function, args, count):
    assert batching(function, args) == count


@pytest.mark.parametrize(("function", "args"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_proved_stays(function, args):
    assert batching(function, args) == 0


@pytest.mark.parametrize(("function", "args"), ALL.values(), ids=ALL)
def test_they_read_and_differentiate_the_same(function, args):
    def loss(x, y):
        return jnp.sum(jnp.sin(jnp.nan_to_num(function(x, y))) * 2)

    np.testing.assert_array_equal(cg.trace(function, *args)(*args)[0], function(*args))
    assert_same(cg.grad(loss)(*args), jax.grad(loss)(*args))


@pytest.mark.parametrize(
    "name", ["labels", "numpy's counter", "transposed", "filled", "tokens", "an open mesh", "a row of tokens"]
)
def test_a_loss_of_them_is_independent_by_examples(name):
    function, args, _ = OWN[name]
    graph = cg.trace(lambda x, y: function(jax.nn.log_softmax(x), y).mean(), *args)
    assert chunkable(graph, {graph.inputs[0]: 0}) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not(name):
    function, args = OTHERS[name]
    graph = cg.trace(function, *args)
    assert chunkable(graph, {graph.inputs[0]: 0}) is None


# How entries are written, whether one to a row, and how many axes become batching axes.
WRITTEN = {
    "set": (lambda x, y: x.at[jnp.arange(B), y].set(y * 0.5), True, 1),
    "set outside": (lambda x, y: x.at[jnp.arange(B), y * 2].set(x[:, 0]), True, 1),
    "subtracted": (lambda x, y: x.at[jnp.arange(B), y].subtract(x[:, 1]), True, 1),
    "added twice": (lambda x, y: x.at[jnp.arange(B)[:, None], jnp.stack([y, y], 1) % 2].add(x[:, :2]), False, 1),
    "the least": (lambda x, y: x.at[jnp.arange(B), y].min(x[:, 0]), True, 1),
    "transposed": (lambda x, y: x.T.at[y, jnp.arange(B)].add(2.0), True, 1),
    "the next row": (lambda x, y: x.at[(jnp.arange(B) + 1) % B, y].add(x[:, 0]), False, 0),
    "one row": (lambda x, y: x.at[0, y].add(x[:, 0]), False, 0),
}


@pytest.mark.parametrize(("function", "once", "count"), WRITTEN.values(), ids=WRITTEN)
def test_writing_is_the_same(function, once, count):
    graph = cg.trace(function, X, Y)
    (scatter,) = (op for op in graph.operations if op.name.startswith("scatter"))
    assert len(scatter.params["dimension_numbers"].operand_batching_dims) == count
    assert scatter.params["unique_indices"] is once
    np.testing.assert_array_equal(graph(X, Y)[0], function(X, Y))

    def loss(x, y):
        return jnp.sum(jnp.sin(function(x, y)) * 2)

    assert_same(cg.grad(loss)(X, Y), jax.grad(loss)(X, Y))
