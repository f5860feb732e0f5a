"""Sizes of batches that devices can share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.doors.batch_sizes import size_step
from tests.support.devices import on_devices

MESH = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def laid(shape, *spec, mesh=MESH):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))


def step(params, batch):
    return params, batch


@pytest.mark.parametrize(
    ("batch", "distance"),
    [
        (lambda n: jax.ShapeDtypeStruct((n, 16), jnp.float32), 1),
        (lambda n: laid((n, 16)), 1),
        (lambda n: laid((n, 16), "data"), 4),
        (lambda n: laid((n, 16), ("data", "model")), 8),
        (lambda n: laid((n, 16), "data", "model"), 4),
        (lambda n: laid((4 * n, 16), "data"), 1),
        (lambda n: laid((2 * n + 8, 16), "data"), 2),
        (lambda n: {"x": laid((n, 16), "data"), "y": laid((16, n), None, ("model", "data"))}, 8),
    ],
)
def test_the_distance_of_sizes_is_what_shardings_say(batch, distance):
    assert size_step(lambda n: (laid((64, 64), "model"), batch(n)), step, 8, 2**20) == distance


def test_a_smallest_batch_that_cannot_be_shared_is_refused_by_the_name_of_the_argument():
    with pytest.raises(
        cg.OptionError, match=r"start=6: axis 0 of batch\['x'\] of step .* length of 6, which 4 devices along 'data' cannot"
    ):
        size_step(lambda n: (laid((64, 64), "model"), {"x": laid((n, 16), "data")}), step, 6, 100)


def check_largest():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def args(n):
        return laid((16, 16), mesh=mesh), laid((n, 16), "data", mesh=mesh)

    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w))

    found = cg.largest_batch(args, jax.value_and_grad(loss), memory="8KiB", start=8)
    sizes = [t.size for t in found.tried]
    assert found.size % 8 == 0
    assert all(size % 8 == 0 for size in sizes)
    assert found.size + 8 == min(t.size for t in found.tried if not t.fits)


@pytest.mark.slow
def test_the_largest_batch_of_several_devices():
    on_devices(8, __name__, "check_largest()")
