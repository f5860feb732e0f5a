"""The names that messages use are the user's: functions, lines, arguments and the leaves inside them."""

from __future__ import annotations

import inspect
from functools import partial

import pytest

from ckptgrad.graph.naming import argument_name, leaf_arguments, leaf_names, name_of, standing_for, title


def loss(params, x, *rest, scale=1.0, **options):
    return x


class Model:
    def __call__(self, x):
        return x


def test_functions_and_other_callables():
    assert [name_of(f) for f in (loss, partial(partial(loss, 1), 2), Model())] == ["loss", "loss", "Model"]
    line = inspect.getsourcelines(loss)[1]
    assert title(loss) == title(partial(loss, 1)) == f"loss ({__file__}:{line})"
    assert title(Model()) == f"Model ({__file__}:{inspect.getsourcelines(Model.__call__)[1]})"
    assert title(len) == "len"


NAMES = [
    ((loss, 0, 2, {}), "params"),
    ((loss, 1, 2, {}), "x"),
    ((loss, 3, 4, {}), "rest[1]"),
    ((loss, "scale", 2, {"scale": 2.0}), "scale"),
    ((partial(loss, 1), 0, 1, {}), "x"),
    ((lambda: None, 0, 1, {}), "args[0]"),
    ((Model(), 0, 1, {}), "x"),
]


@pytest.mark.parametrize(("call", "name"), NAMES)
def test_arguments(call, name):
    assert argument_name(*call) == name


def test_leaves_in_the_order_of_jax():
    args = ({"w": 1.0, "b": (2.0, None)}, 3.0, [4.0])
    assert leaf_names(loss, args, {"scale": 5.0}) == ["params['b'][0]", "params['w']", "x", "rest[0][0]", "scale"]


def test_a_stand_in_has_the_name_and_the_parameters_of_the_users_function():
    stand_in = standing_for(loss, lambda *args: args)
    assert stand_in(1, 2) == (1, 2)
    assert (name_of(stand_in), title(stand_in)) == ("loss", title(loss))
    assert inspect.signature(stand_in) == inspect.signature(loss)
    assert list(inspect.signature(standing_for(loss, max, ["x", "params"])).parameters) == ["x", "params"]
    # What is not the name of a parameter (`rest[0]`) is not one of the stand-in's.
    assert inspect.signature(standing_for(loss, max, ["rest[0]"])) == inspect.signature(loss)


def test_each_leaf_knows_its_argument():
    args, kwargs = ({"w": 1, "b": 2}, 3, 4), {"scale": 5, "other": (6, 7)}
    found = leaf_arguments(loss, args, kwargs)
    assert found == ["params", "params", "x", "rest[0]", "other", "other", "scale"]
    assert all(name.startswith(argument) for name, argument in zip(leaf_names(loss, args, kwargs), found, strict=True))
