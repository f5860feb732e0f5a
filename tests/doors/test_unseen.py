"""A budget in bytes is never judged in the wrong unit without a word, wherever the mesh is named."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.doors import unseen
from ckptgrad.errors import OptionError, ShardingWarning

MESH = AbstractMesh((8,), ("d",), axis_types=(AxisType.Auto,))
W, X = np.eye(4, dtype=np.float32), np.ones((16, 4), np.float32)


def loss(w, x):
    return (jnp.tanh(x @ w) ** 2).sum()


def constrained(w, x):
    return loss(w, jax.lax.with_sharding_constraint(x, NamedSharding(MESH, P("d"))))


def mapped(w, x):
    inner = jax.shard_map(lambda w, x: jax.lax.psum(loss(w, x), "d"), mesh=MESH, in_specs=(P(), P("d")), out_specs=P())
    return inner(w, x)


def looped(w, x):
    return jax.lax.scan(lambda c, _: (c + mapped(w, x), None), 0.0, None, length=2)[0]


def traced(fun, *args, **options):
    """Traced as `jax.jit` does with arrays of the host, whatever its `in_shardings` are."""
    return jax.make_jaxpr(cg.grad(fun, **options))(*args)


@pytest.mark.parametrize("fun", [constrained, mapped, looped])
def test_a_mesh_in_the_function_is_seen(fun):
    with pytest.raises(OptionError, match=r"traced by jax.jit on a mesh of 8 devices nothing says .*; pass shardings="):
        traced(fun, W, X, budget="1MiB")
    traced(fun, W, X, budget="1x")
    traced(fun, W, X, budget="1MiB", shardings=(NamedSharding(MESH, P()), NamedSharding(MESH, P("d"))))


def test_a_mesh_around_the_trace_is_seen():
    with jax.sharding.use_abstract_mesh(MESH), pytest.raises(OptionError, match="on a mesh of 8 devices"):
        traced(loss, W, X, budget="1MiB")


def test_a_mesh_of_one_device_says_nothing():
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("d",), axis_types=(AxisType.Auto,))):
        traced(loss, W, X, budget="1MiB")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": "1MiB"}, True),
        ({"budget": "1x"}, False),
        ({"budget": None}, False),
        ({"budget": "1MiB", "shardings": (None, None)}, False),
    ],
)
def test_that_nothing_is_known_is_said_once_where_there_are_several_devices(monkeypatch, options, said):
    monkeypatch.setattr(unseen, "all_devices", lambda: [*range(8)])

    def fresh(w, x):
        return loss(w, x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            traced(fresh, W, X, **options)
            cg.grad(fresh, **options)(W, X)
    assert [w.category for w in caught] == [ShardingWarning] * said


def test_on_one_device_nothing_is_said(monkeypatch):
    monkeypatch.setattr(unseen, "all_devices", lambda: [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced(loss, W, X, budget="1MiB")


def wide(w, x):
    return jax.nn.logsumexp(x @ w, -1).sum()


@pytest.mark.parametrize(("devices", "loops"), [(1, True), (8, False)])
def test_nothing_runs_over_chunks_of_an_axis_that_may_be_cut_over_devices(devices, loops):
    """They would be gathered: each device has a part of every chunk."""
    args = np.ones((16, 512), np.float32), np.ones((4096, 16), np.float32)
    with jax.sharding.use_abstract_mesh(AbstractMesh((devices,), ("d",), axis_types=(AxisType.Auto,))):
        found = str(traced(wide, *args, budget="min", chunks=True))
    assert ("scan[" in found or "while[" in found) == loops


def test_parts_of_a_batch_are_refused_where_they_would_be_gathered():
    traced(loss, W, X, microbatches=4)
    with pytest.raises(OptionError, match=r"one device, and constrained .* runs on 8, which would gather each part"):
        traced(constrained, W, X, microbatches=4)
