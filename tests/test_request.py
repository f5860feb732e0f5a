"""A request is checked where it is made, whichever door made it."""

from __future__ import annotations

import dataclasses
import inspect

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


@pytest.mark.parametrize(
    ("options", "error", "word"), REFUSED, ids=[next(iter(o)) + str(k) for k, (o, *_) in enumerate(REFUSED)]
)
@pytest.mark.parametrize("door", [Request, *DOORS.values()], ids=["Request", *DOORS])
def test_malformed_options_are_refused_at_once(door, options, error, word):
    (name,) = options
    known = Request if door is Request else getattr(cg, next(n for n, d in DOORS.items() if d is door))
    if name not in inspect.signature(known).parameters:
        pytest.skip("not an option of this door")
    with pytest.raises(error, match=word):
        door(**options)


def test_a_request_is_a_value():
    asked = Request(argnums=[1, 0], budget="1MiB")
    assert asked == Request((1, 0), budget="1MiB")
    assert asked.argnums == (1, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.budget = None


def test_runtime_is_not_an_option():
    with pytest.raises(TypeError, match="runtime"):
        cg.grad(jnp.sum, runtime="compiled")
