"""What is read and written through views of a reference is what NumPy's indices say, slice by slice."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.errors import ReferenceTypeError
from ckptgrad.graph.reference_views import read_at, written_at

X = np.arange(24.0, dtype=np.float32).reshape(4, 6)


class Reshape(SimpleNamespace):
    """A view as JAX's own: known by the name of its class."""


def window(start, size, stride=1):
    return SimpleNamespace(start=start, size=size, stride=stride)


def at(*entries):
    return SimpleNamespace(indices=entries)


# Views, and what NumPy shows for them.
VIEWS = {
    "nothing": ([], lambda x: x),
    "a window": ([at(window(1, 2), window(2, 3))], lambda x: x[1:3, 2:5]),
    "a row": ([at(2, window(0, 6))], lambda x: x[2]),
    "an entry": ([at(3, 4)], lambda x: x[3, 4]),
    "with strides": ([at(window(0, 2, 2), window(1, 2, 3))], lambda x: x[0:3:2, 1:5:3]),
    "arrays": ([at(np.array([0, 3]), np.array([5, 1]))], lambda x: x[[0, 3], [5, 1]]),
    "a reshape": ([Reshape(shape=(6, 4))], lambda x: x.reshape(6, 4)),
    "a window of a reshape": ([Reshape(shape=(24,)), at(window(5, 9))], lambda x: x.reshape(24)[5:14]),
    "a window of a row": ([at(1, window(0, 6)), at(window(2, 2))], lambda x: x[1][2:4]),
}


@pytest.mark.parametrize(("views", "shown"), VIEWS.values(), ids=VIEWS)
def test_reading(views, shown):
    np.testing.assert_array_equal(read_at(jnp.asarray(X), views), shown(X))


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("views", "shown"), VIEWS.values(), ids=VIEWS)
def test_writing_changes_what_is_seen_and_nothing_else(views, shown, add):
    expected = X.copy()
    places = shown(np.arange(X.size).reshape(X.shape))
    value = -1.0 - np.arange(places.size, dtype=np.float32).reshape(places.shape)
    expected.flat[places] = expected.flat[places] * add + value
    np.testing.assert_array_equal(written_at(jnp.asarray(X), views, jnp.asarray(value), add), expected)


def test_a_window_that_begins_at_a_traced_place_stays_within_bounds():
    found = jax.jit(lambda i: read_at(jnp.asarray(X), [at(window(i, 2), window(0, 6))]))(9)
    np.testing.assert_array_equal(found, X[2:4])


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (SimpleNamespace(), "seen through a SimpleNamespace"),
        (at(window(jnp.int32(1), 2, 2), 0), "from a traced start"),
        (at(np.array([0, 1]), window(jnp.int32(1), 2)), "from a traced start"),
    ],
)
def test_other_views_are_refused(view, words):
    with pytest.raises(ReferenceTypeError, match=words):
        read_at(jnp.asarray(X), [view])
