"""A call as its leaves: which are differentiated, and under which names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.calling import call_of_none, check_function, make_call
from ckptgrad.errors import GradientTypeError

X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize("argnums", [2, -3, (0, 0), (), (0, -2), (0, 5), "0", 1.0, True, None, (0, None)])
def test_wrong_argnums(argnums):
    with pytest.raises(cg.OptionError) as caught:
        cg.grad(lambda x, y: x.sum(), argnums=argnums)(X, X)
    assert repr(argnums) in str(caught.value)


def loss(params, x, *, scale):
    return (params["w"] * x).sum() * scale


PARAMS = {"b": X + 1, "w": X + 2}


@pytest.mark.parametrize(
    ("argnums", "names"),
    [(0, ["params['b']", "params['w']"]), (1, ["x"]), ((1, 0), ["x", "params['b']", "params['w']"]), (-1, ["x"])],
)
def test_differentiated_leaves_in_the_order_of_argnums(argnums, names):
    call = make_call(loss, (PARAMS, X), {"scale": X[0]}, argnums)
    assert call.names == ["params['b']", "params['w']", "x", "scale"]
    assert [call.names[k] for k in call.selected] == names
    assert call.primals_tree == jax.tree.structure(call.primals)
    of_primals = call.of_primals()
    assert of_primals.names == names
    assert of_primals.fun(*call.primals) == loss(PARAMS, X, scale=X[0])


def test_numbers_are_leaves_where_they_are_differentiated():
    call = make_call(max, (2.0, 3.0), {}, 0)
    assert isinstance(call.leaves[0], jax.Array)
    assert len(call.leaves) == 1
    assert call.fun(5.0, None) == 5.0
    assert call_of_none(max, (2.0, X), {}).leaves == [X]


def test_what_is_no_function():
    def generator(x):
        yield x

    for fun, words in ((3, "got 3"), (generator, "generator function: generator")):
        with pytest.raises(GradientTypeError, match=words):
            check_function(fun)
