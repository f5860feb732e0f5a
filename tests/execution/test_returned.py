"""What a compiled program returns lies as if nothing in it had been constrained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.execution import returned
from tests.support.compare import assert_same


def loss(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return (x**2).mean(), x


def test_the_partitioner_is_asked_once_for_all_plans(monkeypatch):
    asked = []
    inner = returned.result_shardings

    def counted(run, structs, mesh):
        found = inner(run, structs, mesh)
        asked.append((len(structs), len(found)))
        return found

    monkeypatch.setattr(returned, "result_shardings", counted)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    whole, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    args = [jax.device_put(jnp.eye(24) / 3, whole)] * 3, jax.device_put(jnp.ones((56, 24)), cut)
    wanted = jax.value_and_grad(loss, has_aux=True)(*args)
    for budget in ("min", "0.9x"):
        compiled = cg.value_and_grad(loss, has_aux=True, budget=budget).compile(*args)
        assert_same(compiled(*args), wanted, scale=8)
    # From weights and a batch to a loss, what it passes on, and a gradient of each weight.
    assert asked == [(4, 5)]
    alone = [jnp.eye(24)] * 3, jnp.ones((56, 24))
    cg.value_and_grad(loss, has_aux=True, budget="min").compile(*alone)
    assert len(asked) == 1
