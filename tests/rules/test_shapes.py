"""The rules that move numbers about, on shapes that nobody chose: ours equals JAX's bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from tests.cases import Case
from tests.support.engine import (
    arguments,
    assert_as_jax,
    assert_avals,
    both_gradients,
    cotangents,
    our_gradient,
)

few = settings(max_examples=12)
sizes = st.integers(1, 4)
shapes = st.lists(sizes, min_size=1, max_size=3).map(tuple)


def assert_same(fun, *args, exact=True) -> None:
    case = Case("random shapes", fun, args, [], exact=exact)
    values = arguments(case, np.float32)
    ours, theirs = both_gradients(case, values, cotangents(case, values))
    assert_avals(ours, values)
    assert_as_jax(case, ours, theirs)


@st.composite
def slices(draw):
    shape = draw(shapes)
    start = [draw(st.integers(0, n)) for n in shape]
    stop = [draw(st.integers(lo, n)) for lo, n in zip(start, shape, strict=True)]
    return shape, start, stop, [draw(st.integers(1, 3)) for _ in shape]


@given(slices())
@few
def test_slice(drawn):
    shape, start, stop, strides = drawn
    assert_same(lambda x: lax.slice(x, start, stop, strides), shape)


@st.composite
def pads(draw):
    """Cropping never takes more than there is, interior padding included."""
    shape = draw(shapes)
    config = []
    for n in shape:
        interior = draw(st.integers(0, 2))
        spread = (n - 1) * (interior + 1) + 1
        low = draw(st.integers(-spread, 3))
        config.append((low, draw(st.integers(-(spread + min(low, 0)), 3)), interior))
    return shape, config


@given(pads())
@few
def test_pad(drawn):
    shape, config = drawn
    assert_same(lambda x, v: lax.pad(x, v, config), shape, ())


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))))
@few
def test_transpose(drawn):
    shape, order = drawn
    assert_same(lambda x: lax.transpose(x, order), shape)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), shapes, st.data())
@few
def test_concatenate(parts, shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    pieces = [(*shape[:axis], n, *shape[axis + 1 :]) for n in parts]
    assert_same(lambda *xs: lax.concatenate(xs, axis), *pieces)


@given(shapes, st.data())
@few
def test_broadcast_in_dim(shape, data):
    """Each axis is kept or, where it has size 1, stretched; new axes come in between."""
    target, places = [], []
    for n in shape:
        target += data.draw(st.lists(sizes, max_size=1))
        places.append(len(target))
        target.append(data.draw(sizes) if n == 1 else n)
    assert_same(lambda x: lax.broadcast_in_dim(x, target, places), shape)


@given(st.lists(sizes, min_size=2, max_size=3).map(tuple), st.data())
@few
def test_gather(shape, data):
    """Indices inside and outside, repeated, along a random axis."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    indices = jnp.asarray(data.draw(st.lists(st.integers(-6, 6), min_size=1, max_size=4)), np.int32)
    mode = data.draw(st.sampled_from(["clip", "fill"]))
    assert_same(lambda x: jnp.take(x, indices, axis, mode=mode, fill_value=3), shape)


@given(shapes, st.data())
@few
def test_reductions(shape, data):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1)))))
    for reduce in (lax.reduce_sum, lax.reduce_max, lax.reduce_prod):
        assert_same(lambda x, reduce=reduce: reduce(x, axes), shape)


def test_dot_general_on_random_axes():
    """Which axes are contracted, batched or free, and in which order, is drawn; sums may run otherwise."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        names = list("bcijk")
        x_names = rng.permutation([n for n in names if n != "k"])
        y_names = rng.permutation([n for n in names if n not in "ij"])
        size = dict(zip(names, rng.integers(1, 4, 5).tolist(), strict=True))
        contract, batch = (([list(x_names).index(n)], [list(y_names).index(n)]) for n in "cb")
        numbers = (contract, batch)
        assert_same(
            lambda x, y, numbers=numbers: lax.dot_general(x, y, numbers),
            tuple(size[n] for n in x_names),
            tuple(size[n] for n in y_names),
            exact=False,
        )


def test_second_order_of_a_chain_of_moves():
    def chain(x):
        y = jnp.transpose(jnp.pad(x, ((1, 0), (0, 2)))[::2], (1, 0))
        return jnp.sum(jnp.concatenate([y, y[:1]]) ** 3)

    x = jnp.arange(6.0).reshape(3, 2)
    case = Case("chain", chain, [(3, 2)], [])
    ours = our_gradient(Case("gradient", lambda x: our_gradient(case)((x,), (jnp.float32(1),)), [(3, 2)], []))
    theirs = jax.grad(lambda x: jnp.sum(jax.grad(chain)(x)))
    np.testing.assert_array_equal(ours((x,), (jnp.ones_like(x),))[0], theirs(x))
