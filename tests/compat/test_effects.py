"""Kinds of side effects are recognised by the operations that have them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad import compat


def printed(ordered):
    def fun(x):
        jax.debug.print("{}", x, ordered=ordered)
        return x

    return fun


def referenced(x):
    cell = jax.new_ref(x)
    cell[...] += 1.0
    return cell[...]


def inside_jit(x):
    return jax.jit(referenced)(x)


def summed(x):
    return jax.lax.psum(x, "i")


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (printed(True), (True, False, False)),
        (printed(False), (False, False, False)),
        (inside_jit, (False, False, True)),
        (summed, (False, True, False)),
    ],
    ids=["ordered", "unordered", "references", "a named axis"],
)
def test_kinds_of_effects(fun, expected):
    effects = jax.make_jaxpr(fun, axis_env=[("i", 2)])(jnp.ones(2)).effects
    found = any(map(compat.is_ordered, effects)), any(map(compat.names_axis, effects)), compat.holds_references(effects)
    assert found == expected
