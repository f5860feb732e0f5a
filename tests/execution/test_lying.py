"""Where values are said to lie over devices, and where that is left to the partitioner."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ckptgrad.execution.lying import constrained, lying
from ckptgrad.graph.atoms import Variable


def on_a_mesh(kind="Auto"):
    return NamedSharding(jax.make_mesh((1,), ("data",), axis_types=(AxisType[kind],)), P("data"))


def is_constrained(function, x):
    return "sharding_constraint" in str(jax.make_jaxpr(function)(x))


@pytest.mark.parametrize(
    ("sharding", "is_said"),
    [
        (on_a_mesh(), True),
        (None, False),
        (on_a_mesh("Explicit"), False),
        (NamedSharding(AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,)), P("data")), False),
    ],
    ids=["automatic axes", "not known", "explicit axes", "devices without names"],
)
def test_a_constraint_is_for_named_devices_along_automatic_axes(sharding, is_said):
    assert is_constrained(lambda x: constrained(x, sharding), jnp.ones((8, 2))) is is_said


def test_what_the_partitioner_cuts_as_no_sharding_says_is_left_to_it():
    v = Variable(jax.typeof(jnp.ones((8, 2))), on_a_mesh())
    assert is_constrained(lambda x: lying([v], [x]), jnp.ones((8, 2)))
    v.loose = True
    assert not is_constrained(lambda x: lying([v], [x]), jnp.ones((8, 2)))
