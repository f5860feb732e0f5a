"""How the arguments of a call lie over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.doors.calling import make_call
from ckptgrad.doors.placing import leaf_shardings
from ckptgrad.errors import OptionError
from ckptgrad.request import Request

MESH = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
SPLIT, WHOLE = NamedSharding(MESH, P("data")), NamedSharding(MESH, P())
X = jax.ShapeDtypeStruct((8, 3), jnp.float32)


def loss(params, x, scale=1.0):
    return scale * jnp.sum(jnp.tanh(x @ params["w"]) + params["b"])


PARAMS = {"b": jax.ShapeDtypeStruct((3,), jnp.float32), "w": jax.ShapeDtypeStruct((3, 3), jnp.float32)}


@pytest.mark.parametrize(
    ("given", "leaves"),
    [
        (None, (None, None, None, None)),
        ((WHOLE, SPLIT), (WHOLE, WHOLE, SPLIT, None)),
        (({"b": None, "w": SPLIT}, None), (None, SPLIT, None, None)),
    ],
)
def test_a_prefix_of_the_arguments_says_it(given, leaves):
    call = make_call(loss, (PARAMS, X), {"scale": jnp.float32(2)}, 0)
    assert leaf_shardings(call, Request(shardings=given)) == leaves


def test_structs_say_it_themselves():
    placed = jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=SPLIT)
    assert leaf_shardings(make_call(loss, (PARAMS, placed), {}, 0), Request()) == (None, None, SPLIT)


def test_what_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="shardings= does not fit the arguments of loss"):
        cg.grad(loss, shardings=(WHOLE,)).plan(PARAMS, X)


@pytest.mark.parametrize("given", [P("data"), "data", 4])
def test_what_names_no_mesh_is_refused(given):
    with pytest.raises(OptionError, match=r"shardings= for loss .* has .*NamedSharding\(mesh"):
        cg.grad(loss, shardings=(None, given)).plan(PARAMS, X)


def test_plans_on_an_abstract_mesh_are_for_one_device():
    both = cg.grad(loss).plan(PARAMS, X), cg.grad(loss, shardings=(WHOLE, SPLIT)).plan(PARAMS, X)
    assert both[1].peak_bytes < both[0].peak_bytes


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_of_one_device_is_a_mesh(axes):
    """As where code for many devices is tried on one."""
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(axes, axes))
    params = {"b": jnp.zeros(3), "w": jnp.eye(3)}
    placed = jax.device_put((params, jnp.ones((8, 3))), NamedSharding(mesh, P()))
    gradient = cg.grad(loss, budget="1MiB")
    wanted = jax.grad(loss)(params, jnp.ones((8, 3)))
    for found in (gradient.compile(*placed)(*placed), jax.jit(gradient)(*placed), gradient(*placed)):
        assert all(jnp.allclose(found[name], wanted[name], rtol=1e-5) for name in wanted)
    assert gradient.plan(*placed).program.devices == 1
