"""A request is checked where it is made, whichever door made it."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.request import Request

X = jnp.ones(3)
# Doors and what they are given besides options, by name.
DOORS = {
    "value_and_grad": lambda **options: cg.value_and_grad(jnp.sum, **options),
    "grad": lambda **options: cg.grad(jnp.sum, **options),
    "vjp": lambda **options: cg.vjp(jnp.sum, X, **options),
    "plan": lambda **options: cg.plan(jnp.sum, X, **options),
    "timeline": lambda **options: cg.timeline(jnp.sum, X, observe=(), **options),
    "frontier": lambda **options: cg.frontier(jnp.sum, X, **options),
    "checkpoint": lambda **options: cg.checkpoint(jnp.sum, **options),
    "jacrev": lambda **options: cg.jacrev(jnp.sum, **options),
}
# What is refused, the error, and one of its words.
REFUSED = [
    ({"budget": "12 parsecs"}, cg.BudgetFormatError, "parsecs"),
    ({"policy": "hope"}, cg.CkptgradError, "hope"),
    ({"costs": "guess"}, cg.OptionError, "guess"),
    ({"argnums": ()}, cg.OptionError, "at least one"),
    ({"argnums": "x"}, cg.ArgnumsError, "an int or a sequence of ints"),
]


def takes(door, options):
    function = Request if door == "Request" else getattr(cg, door)
    return options.keys() <= inspect.signature(function).parameters.keys()


ROWS = [(door, *row) for door in ("Request", *DOORS) for row in REFUSED if takes(door, row[0])]


@pytest.mark.parametrize(("door", "options", "error", "word"), ROWS)
def test_malformed_options_are_refused_at_once(door, options, error, word):
    with pytest.raises(error, match=word):
        (Request if door == "Request" else DOORS[door])(**options)


def test_a_request_is_a_value():
    asked = Request(argnums=[1, 0], budget="1MiB")
    assert asked == Request((1, 0), budget="1MiB")
    assert asked.argnums == (1, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.budget = None


@pytest.mark.parametrize("door", [cg.value_and_grad, cg.grad])
@pytest.mark.parametrize(
    ("option", "names"),
    [
        ({"policy": "clever"}, "optimal"),
        ({"costs": "guess"}, "measure"),
        ({"policy": 3}, "optimal"),
        ({"costs": None}, "measure"),
    ],
)
def test_unknown_options_are_refused_at_once(door, option, names):
    with pytest.raises(cg.CkptgradError, match=names) as caught:
        door(jnp.sum, **option)
    assert repr(next(iter(option.values()))) in str(caught.value)


def test_an_unknown_policy_is_an_unknown_option():
    with pytest.raises(cg.OptionError, match="no policy is called 'optimum'"):
        Request(policy="optimum")


def test_exact_encodings_are_used_within_a_budget():
    assert Request().kept_as == Request(encodings=None, budget="min").kept_as == ()
    assert Request(encodings=False, budget="min").kept_as == Request(encodings=(), budget=1).kept_as == ()
    assert Request(budget="min").kept_as == Request(budget=1, encodings="bits").kept_as == ("bits",)
    assert replace(Request(), budget=1).kept_as == ("bits",)
    assert Request(budget=1, encodings="int8").kept_as == ("bits", "int8")
    assert Request(encodings=["int8"]).kept_as == ("int8",)
