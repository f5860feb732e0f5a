"""What the partitioner is asked, on a mesh of no devices in particular."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ckptgrad.target.partitioner import mesh_of, result_shardings

MESH = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def on_mesh(*spec):
    return NamedSharding(MESH, P(*spec))


def struct(shape, *spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=on_mesh(*spec))


X, W = struct((16, 8), "data"), struct((8, 4), None, "model")


@pytest.mark.parametrize(
    ("function", "specs"),
    [
        (lambda x, w: [x @ w, x.T], [P("data", "model"), P(None, "data")]),
        (lambda x, w: [jnp.sum(x)], [P()]),
        (lambda x, w: [lax.with_sharding_constraint(x, on_mesh(("data", "model")))], [P(("data", "model"), None)]),
        (lambda x, w: [lax.scan(lambda c, v: (c, c * v), x, jnp.arange(3.0))[1]], [P(None, "data", None)]),
        # An axis of the mesh that is cut in two: no sharding says so of a result.
        (lambda x, w: [x.reshape(2, 8, 8)], [P(P.UNCONSTRAINED, P.UNCONSTRAINED, None)]),
        (lambda x, w: [jax.random.split(jax.random.key(0), 3)], [P()]),
    ],
)
def test_results_lie_as_propagation_says(function, specs):
    found = [s.spec for s in result_shardings(function, [X, W], MESH)]
    assert [P(*(tuple(f) + (None,) * 3)[:3]) for f in found] == [P(*(tuple(s) + (None,) * 3)[:3]) for s in specs]


def test_the_mesh_of_several_devices_is_found():
    alone = NamedSharding(AbstractMesh((1,), ("one",)), P())
    assert mesh_of([None, alone, X.sharding]) == MESH
    assert mesh_of([None, alone]) is None
