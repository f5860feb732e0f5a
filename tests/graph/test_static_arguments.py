"""What is traced of a call, and what tells two settings apart that a function may treat differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.errors import StaticArgumentError
from ckptgrad.graph.static_arguments import identity, is_traced, split_call


@dataclass
class Config:
    steps: Any = 2
    act: Any = field(default=jnp.tanh)


def test_identities():
    class Slotted:
        __slots__ = ("a",)

        def __init__(self, a):
            self.a = a

    thing = Slotted(1)
    before = identity(thing)
    assert before == identity(thing)
    thing.a = 2
    assert before != identity(thing)
    assert identity([1, {"a": (2,)}]) == identity([1, {"a": (2,)}])
    assert identity([1, {"a": (2,)}]) != identity([1, {"a": (2.0,)}])
    assert identity({1, 2}) == identity({2, 1}) != identity({1, 2.0})
    assert identity(Config(1)) == identity(Config(1)) != identity(Config(1, jnp.sin))
    assert identity(np.arange(3)) != identity(np.arange(3.0))
    circle: list = [1]
    circle.append(circle)
    assert identity(circle) == identity(circle)


TRACED = {
    "an array": (jnp.ones(2), True),
    "an array of NumPy": (np.ones(2), True),
    "booleans of NumPy": (np.array([True]), True),
    "a struct": (jax.ShapeDtypeStruct((2,), jnp.float32), True),
    "words of NumPy": (np.array(["a"]), False),
    "a number of NumPy": (np.float32(1), False),
    "a number": (1.0, False),
    "a word": ("a", False),
}


@pytest.mark.parametrize(("leaf", "traced"), TRACED.values(), ids=TRACED)
def test_arrays_are_traced_and_nothing_else(leaf, traced):
    assert is_traced(leaf) == traced


def scaled(x, options, *, flag):
    return x * options["scale"] if flag else options["name"]


def test_a_call_is_split_and_filled_in_again():
    x, scale = jnp.ones(2), jnp.full(2, 3.0)
    split = split_call(scaled, (x, {"name": "a", "scale": scale}), {"flag": True})
    assert split.args[0] is x
    assert split.args[1]["scale"] is scale
    assert split.args[1]["name"] is None
    assert split.kwargs == {"flag": None}
    np.testing.assert_array_equal(split.fun(x, {"name": None, "scale": 2 * scale}, flag=None), 6 * x)


def test_where_all_is_traced_the_function_is_called_itself():
    split = split_call(scaled, (jnp.ones(2), {}), {})
    assert split.fun is scaled
    assert not split.kept


@pytest.mark.parametrize(("differentiated", "numbers", "kept"), [((), False, {0, 1}), ((0,), False, {1}), ((), True, {1})])
def test_numbers_are_traced_where_they_are_differentiated_or_asked_for(differentiated, numbers, kept):
    assert split_call(max, (2.0, True), {}, differentiated, numbers).kept.keys() == kept


def test_settings_know_another_call():
    settings = split_call(scaled, (jnp.ones(2), {"name": "a"}), {"flag": True}).settings()
    args, kwargs = settings.traced_parts((jnp.zeros(2), {"name": "a"}), {"flag": True})
    assert (args[1], kwargs) == (None, {"flag": None})
    assert settings == split_call(scaled, (jnp.zeros(2), {"name": "a"}), {"flag": True}).settings()
    for options, flag in (({"name": "b"}, True), ({"other": "a"}, True), ({"name": "a"}, 1)):
        with pytest.raises(StaticArgumentError, match="scaled"):
            settings.traced_parts((jnp.zeros(2), options), {"flag": flag})
