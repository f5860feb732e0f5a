"""What is proved to be chunkable equals the whole, and what mixes entries is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.axes.chunked import chunkable
from ckptgrad.axes.cut import Partial, Split
from ckptgrad.graph.trace import trace
from tests.support.chunks import assert_as_whole, found_for
from tests.support.rows import quick_rows


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64():
        yield


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def head(w, b, x, y):
    """Mean cross entropy over labels."""
    logits = jnp.tanh(x @ w + b)
    logp = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
    return -jnp.mean(jnp.take_along_axis(logp, y[..., None], -1))


LABELS = np.arange(10).reshape(5, 2) % 4


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loss_head_sums_over_chunks_and_divides_after(axis):
    args = normal(3, 4), normal(4), normal(5, 2, 3), LABELS
    found = found_for(head, args, {2: axis})
    assert found is not None
    assert found.size == (5, 2)[axis]
    assert list(found.outputs.values()) == [Partial()]
    assert {v.dtype.name: a for v, a in found.sliced.items()} == {"float64": axis, "int64": axis}
    assert [op.name for op in found.after] == ["div", "neg"]
    assert_as_whole(found, head, args, gradients=axis == 0)


def test_what_does_not_depend_on_the_cut_is_done_once_before():
    fun = lambda w, x: x @ jnp.tanh(w).T
    found = found_for(fun, (normal(4, 3), normal(5, 3)), {1: 0})
    assert found is not None
    assert [op.name for op in found.before] == ["tanh"]
    assert [op.name for op in found.inside] == ["transpose", "dot_general"]
    assert list(found.outputs.values()) == [Split(0)]
    assert_as_whole(found, fun, (normal(4, 3), normal(5, 3)))


def test_positions_per_entry():
    """(batch, tokens) merged and split again: a chunk of examples has a run of tokens."""
    fun = lambda w, x: jnp.sin(x.reshape(12, 2) @ w).reshape(4, 3, 2).sum((0, 2))
    args = normal(2, 2), normal(4, 3, 2)
    found = found_for(fun, args, {1: 0})
    assert found is not None
    assert_as_whole(found, fun, args)
    assert found_for(fun, args, {1: 1}) is None


def test_random_bits_are_those_of_the_whole():
    fun = lambda key, x: jnp.sum(x * jax.random.bernoulli(key, 0.5, x.shape))
    args = jax.random.key(0), normal(6, 2)
    found = found_for(fun, args, {1: 0})
    assert found is not None
    assert "random_bits" in [op.name for op in found.before]
    assert_as_whole(found, fun, args)


def test_one_value_read_whole_and_in_parts():
    """Labels normalised by their own sum, which is known before the loop."""
    fun = lambda x, weights: jnp.sum(x * (weights / weights.sum())[:, None])
    args = normal(5, 3), normal(5)
    found = found_for(fun, args, {0: 0})
    assert found is not None
    assert_as_whole(found, fun, args, gradients=True)
    assert found_for(fun, args, {0: 0, 1: 0}) is None


def test_what_is_sliced_need_not_be_made_whole():
    """Of one-hot labels a chunk makes its own part."""
    fun = lambda x, y: jnp.sum((x - jax.nn.one_hot(y, 7)) ** 2)
    args = normal(5, 2, 7), LABELS
    found = found_for(fun, args, {0: 0})
    assert found is not None
    assert "eq" in [op.name for op in found.inside]
    assert max(v.nbytes for op in found.before for v in op.outputs) <= 7 * 8
    assert_as_whole(found, fun, args)


MIXING = {
    "batch norm": lambda x: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5),
    "contrastive": lambda x: jax.nn.logsumexp(x @ x.T, 1).sum(),
    "softmax over examples": lambda x: jax.nn.softmax(x, 0),
    "cumulative sum": lambda x: jnp.cumsum(x, 0),
    "roll": lambda x: jnp.roll(x, 1, 0),
    "pairwise distances": lambda x: ((x[:, None] - x[None]) ** 2).sum(-1),
    "sort": lambda x: jnp.sort(x, 0),
    "argsort": lambda x: jnp.argsort(x, 0),
    "reversed": lambda x: x[::-1] * x,
    "transposed": lambda x: x + x.T,
    "maximum": lambda x: jnp.max(x),
    "product": lambda x: jnp.prod(x, 0),
    "first": lambda x: x - x[:1],
    "half": lambda x: x[:2],
    "strided": lambda x: x[::2],
    "gathered": lambda x: x[jnp.array([3, 2, 1, 0])],
    "at a dynamic place": lambda x: jax.lax.dynamic_slice_in_dim(x, x[0, 0].astype(int), 1, 0),
    "padded": lambda x: jnp.pad(x, ((1, 0), (0, 0))),
    "joined": lambda x: jnp.concatenate([x, x], 0),
    "merged behind": lambda x: x.T.reshape(16),
    "ravelled twice": lambda x: x.reshape(2, 8),
    "diagonal": lambda x: x * jnp.trace(x),
    "of all": lambda x: x / jnp.linalg.norm(x),
    "inverse": lambda x: jnp.linalg.inv(x),
    "minus the total after": lambda x: (x.sum(), x - x.sum()),
    "printed": lambda x: (jax.debug.print("{}", x[0, 0]), x)[1],
    "dynamic row": lambda x: jax.lax.dynamic_update_slice_in_dim(x, x[:1] * 2, 2, 0),
    "convolved": lambda x: jnp.convolve(x[:, 0], jnp.ones(3), "same"),
    "scattered": lambda x: x.at[0].set(1.0),
    "fft": lambda x: jnp.fft.fft(x, axis=0).real,
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_entries_is_refused(name):
    assert found_for(MIXING[name], (normal(4, 4),), {0: 0}) is None


ODD = {
    "size-one axis stretched": lambda x: x * x[:, :1],
    "scalar predicate": lambda x: jnp.where(x.shape[0] > 3, x, -x) + jax.lax.select(jnp.array(True), x, -x),
    "scalar bounds": lambda x: jax.lax.clamp(0.1, x, 0.2),
    "rounded": lambda x: jax.lax.reduce_precision(x, 5, 3),
    "over another axis": lambda x: jnp.cumsum(x, 1) + jnp.flip(x, 1) + jnp.roll(x, 1, 1),
    "argmax": lambda x: x * jnp.argmax(x, 1)[:, None],
    "several results": lambda x: (x, x.sum(), x.sum(0), x.mean(1), jnp.ones(3)),
    "count": lambda x: x.sum() / (x > 0).sum(),
    "places": lambda x: x * jnp.arange(4)[:, None],
    "outer product with itself summed": lambda x: x.T @ x,
    "new axes": lambda x: x[None, :, None].squeeze(0),
    "taken along": lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1),
    "row by row": jax.vmap(lambda row: row[jnp.argmax(row)]),
    "column": lambda x: jax.lax.dynamic_slice_in_dim(x, 1, 2, 1),
    "padded behind": lambda x: jnp.pad(x, ((0, 0), (1, 2))),
    "joined behind": lambda x: jnp.concatenate([x, jnp.ones((4, 2)), x], 1),
    "in two": lambda x: sum(jnp.split(x, 2, 1)),
    "sorted behind": lambda x: jnp.sort(x, 1) + jnp.argsort(x, 1) + jax.lax.top_k(x, 4)[0],
    "repeated behind": lambda x: jnp.tile(x, (1, 2)) + jnp.stack([x[:, 0]] * 8, 1),
    "keys for each": lambda x: jax.vmap(lambda k, row: row * jax.random.uniform(k, (4,)))(
        jax.random.split(jax.random.key(0), 4), x
    ),
    "custom": lambda x: jax.nn.relu(x) + jax.nn.silu(x) + jax.nn.gelu(x),
}


@pytest.mark.parametrize(
    "name",
    quick_rows(
        ODD, "rounded", "over another axis", "places", "outer product with itself summed", "padded behind", "keys for each"
    ),
)
def test_what_treats_entries_apart_is_found(name):
    args = (normal(4, 4),)
    found = found_for(ODD[name], args, {0: 0})
    assert found is not None
    assert_as_whole(found, ODD[name], args)


def convolved(w, x):
    y = jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.reduce_window(jnp.tanh(y), 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize(("cuts", "summed"), [({1: 0}, False), ({1: 3}, True), ({0: 3}, False)])
def test_images(cuts, summed):
    """Over the batch and over the features that are made; those that are summed over have a tanh after the loop."""
    args = normal(3, 3, 2, 4), normal(3, 4, 4, 2)
    found = found_for(convolved, args, cuts)
    assert found is not None
    assert_as_whole(found, convolved, args, gradients=cuts == {1: 0})
    assert ("tanh" in [op.name for op in found.after]) == summed


def test_space_is_needed_whole():
    assert found_for(convolved, (normal(3, 3, 2, 4), normal(3, 4, 4, 2)), {1: 1}) is None


STEPS = {
    "sin": jnp.sin,
    "scaled": lambda x: x * jnp.arange(1.0, x.shape[-1] + 1),
    "relu": jax.nn.relu,
    "merged": lambda x: x.reshape(-1, x.shape[-1]),
    "split": lambda x: x.reshape(*x.shape[:-1], 1, x.shape[-1]),
    "turned": lambda x: jnp.moveaxis(x, -1, 0),
    "swapped": lambda x: x.swapaxes(0, -1),
    "summed": lambda x: x.sum(-1, keepdims=True) * jnp.ones(2),
    "summed in front": lambda x: x.sum(0),
    "largest": lambda x: x - x.max(-1, keepdims=True),
    "normal": lambda x: x / jnp.sqrt(1 + (x * x).mean(-1, keepdims=True)),
    "softmax": jax.nn.softmax,
    "gram": lambda x: jnp.einsum("...i,...j->...ij", x, x),
    "correlated": lambda x: jnp.tensordot(x, x, ((0,), (0,))),
    "rolled": lambda x: jnp.roll(x, 1, -1),
    "added up": lambda x: jnp.cumsum(x, -1),
    "joined": lambda x: jnp.concatenate([x, jnp.cos(x)], -1),
    "cut": lambda x: x[..., : max(1, x.shape[-1] - 1)],
    "picked": lambda x: x[..., np.arange(x.shape[-1])[::-1]],
    "with itself": lambda x: x * x.reshape(x.shape[::-1]).T,
}


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5))
def test_random_programs(names):
    """Wherever an axis is said to be chunkable, chunks give what the whole gives."""

    def fun(x):
        for name in names:
            x = STEPS[name](x)
            if x.size > 500 or x.ndim == 0:
                break
        return x, x.sum() / x.size

    with jax.enable_x64():
        args = (normal(4, 2, 4),)
        for axis in range(3):
            found = found_for(fun, args, {0: axis})
            if found is not None:
                assert_as_whole(found, fun, args)


def test_nothing_to_cut():
    graph = trace(lambda x: x * 2, jnp.ones((1, 3)))
    assert chunkable(graph, {}) is None
    assert chunkable(graph, {graph.inputs[0]: 0}) is None
    assert found_for(lambda x, y: y, (normal(4), normal(4)), {0: 0}) is None
    assert found_for(lambda x: x, (jnp.ones((0, 3)),), {0: 0}) is None


def test_sizes_that_do_not_divide():
    assert found_for(lambda x, y: (x, y * 2), (normal(4), normal(6)), {0: 0, 1: 0}) is None


# A value, and numbers of it that its entries may equal; with a second one that is cut.
MET = {
    "the first row": lambda z, y: jnp.where(z > z[0], z, y),
    "the largest": lambda z, y: jnp.where(z == z.max(0), z, y),
    "a threshold": lambda z, y: jnp.where(z >= jnp.sort(z.ravel())[10], z, y),
    "a difference": lambda z, y: jax.nn.relu(z - z[1]) + y,
    "picked by a sum": lambda z, y: jnp.where(z >= (z * (jnp.arange(4) == 2)[:, None]).sum(0), z, y),
    "picked by a product": lambda z, y: jnp.where(z >= (jnp.arange(4) == 2).astype(z.dtype) @ z, z, y),
    "a function of it": lambda z, y: jnp.where(jnp.tanh(z) >= jnp.tanh(z).max(0), z, y),
}


@pytest.mark.parametrize("name", MET)
def test_what_may_equal_a_number_of_the_whole_value_is_not_made_again(name):
    """The product is made once, before the loop, and sliced: made again of a part it is rounded otherwise."""
    graph = trace(lambda w, x, y: MET[name](x @ w, y), jnp.ones((5, 5)), jnp.ones((4, 5)), jnp.ones((4, 5)))
    found = chunkable(graph, {graph.inputs[2]: 0})
    assert found is not None
    assert "dot_general" in [op.name for op in found.before]
    assert "dot_general" not in [op.name for op in found.inside]


def test_what_is_multiplied_with_the_whole_value_is_made_again():
    """As queries are for each chunk: no sum equals what it sums."""
    fun = lambda w, x, y: (x @ w) @ (x @ w).T @ y
    graph = trace(fun, jnp.ones((5, 5)), jnp.ones((4, 5)), jnp.ones((4, 5)))
    assert chunkable(graph, {graph.inputs[2]: 1}) is not None
    paired = trace(lambda w, x, y: jnp.tanh(x @ w) @ jnp.tanh(x @ w).T + y, *(jnp.ones((4, 4)) for _ in range(3)))
    found = chunkable(paired, {paired.inputs[2]: 0})
    assert found is not None
    assert [op.name for op in found.inside].count("dot_general") == 2
