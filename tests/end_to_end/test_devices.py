"""Budgets on several devices are bytes of one of them, and so are predictions and certificates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds
from ckptgrad.errors import BudgetError, OptionError
from ckptgrad.target import laid_out
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.target import Target
from tests.support.devices import on_devices

DEPTH, WIDTH, ROWS = 6, 64, 8 * 512
# The activation of a layer on one device.
ACT = ROWS // 8 * WIDTH * 4


def layers(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return (x**2).mean()


def mesh_of_eight():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def data_parallel():
    """Whole parameters, the batch over eight devices."""
    mesh = mesh_of_eight()
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    w = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32, sharding=whole)
    return [w] * DEPTH, jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32, sharding=split)


def check_referee():
    """What a device takes without a budget, with one between, and at least; a plan for one device's share says the same."""
    args = data_parallel()
    w, x = (jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32) for rows in (WIDTH, ROWS // 8))
    alone = [w] * DEPTH, x
    everything = compiled_memory(jax.jit(jax.value_and_grad(layers)).lower(*args).compile()).peak_bytes
    for budget in (None, 5 * ACT, "min"):
        found = cg.value_and_grad(layers, budget=budget).compile(*args)
        one = cg.value_and_grad(layers, budget=budget).compile(*alone)
        assert found.peak_bytes <= everything + 2 * ACT
        assert abs(found.plan.peak_bytes - one.plan.peak_bytes) < ACT
        assert abs(found.plan.peak_bytes / found.peak_bytes - 1) < 0.25, (budget, found.plan.peak_bytes, found.peak_bytes)
    with pytest.raises(BudgetError, match=r"a budget of 131072 bytes \(128 KiB\) a device, of 8, is below") as refused:
        cg.value_and_grad(layers, budget=ACT).compile(*args)
    assert ACT < refused.value.smallest < 5 * ACT


def check_reports():
    """What is shown says whose bytes they are."""
    args = data_parallel()
    plan = cg.plan(layers, *args)
    assert " a device, of 8 beyond the arguments" in str(plan)
    assert (plan.to_dict()["devices"], plan.timeline().to_dict()["devices"]) == (8, 8)
    assert " a device, of 8 during " in str(plan.timeline())
    assert "budgets a device, of 8 at which" in str(cg.frontier(layers, *args))
    with pytest.raises(BudgetError, match="a device, of 8"):
        cg.plan(layers, *args, budget=ACT)
    table = cg.validate(layers, *jax.tree.map(placed, args), policies="optimal", repeats=1)
    assert "peak bytes a device, of 8 beyond the arguments" in str(table)


def placed(struct):
    return jax.device_put(np.ones(struct.shape, struct.dtype) / WIDTH, struct.sharding)


def check_traced():
    """Under jit a budget in bytes needs `shardings`; with them it is planned as by `compile`."""
    ws, x = data_parallel()
    args = [jax.device_put(jnp.eye(WIDTH), w.sharding) for w in ws], jax.device_put(jnp.ones(x.shape), x.sharding)
    with pytest.raises(
        OptionError, match=r"for one device, and while layers .* is traced .* mesh of 8 devices .* shardings="
    ):
        jax.jit(cg.grad(layers, budget=5 * ACT))(*args)
    with pytest.raises(OptionError, match=r"shardings= does not fit the arguments of layers"):
        cg.grad(layers, shardings=(x.sharding,)).plan(*args)
    jax.jit(cg.grad(layers, budget="0.9x"))(*args)
    told = cg.grad(layers, budget=5 * ACT, shardings=(ws[0].sharding, x.sharding))
    found = compiled_memory(jax.jit(told).lower(*args).compile())
    assert found.peak_bytes <= 6 * ACT
    assert told.plan(*args).peak_bytes == cg.grad(layers, budget=5 * ACT).plan(*args).peak_bytes
    np.testing.assert_allclose(jax.jit(told)(*args)[0], jax.grad(layers)(*args)[0], rtol=1e-6)


def test_bytes_are_those_of_one_device():
    on_devices(8, __name__, "check_referee(); check_traced(); check_reports()")


def counted(monkeypatch, run):
    """How often the partitioner and a compiler were asked while something ran from nothing, and what it gave."""
    asked = {"partitioner": 0, "compiler": 0}
    shardings = laid_out.result_shardings

    def partition(*args):
        asked["partitioner"] += 1
        return shardings(*args)

    def compiling(compiled):
        def compile_(*args):
            asked["compiler"] += 1
            return compiled(*args)

        return compile_

    forget_kinds()
    with monkeypatch.context() as patch:
        patch.setattr(laid_out, "result_shardings", partition)
        for name in ("compile", "compile_probe"):
            patch.setattr(Target, name, compiling(getattr(Target, name)))
        return asked, run()


def spread_over(mesh, rows):
    """Parameters cut over a mesh, and as many rows for each of its devices."""
    cut = NamedSharding(mesh, P("data"))
    w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32, sharding=cut)
    return [w] * DEPTH, jax.ShapeDtypeStruct((rows * mesh.size, 1024), jnp.float32, sharding=cut)


def test_plans_for_more_devices_ask_nothing_more(monkeypatch):
    """Nor do they take more bytes of each."""
    found = []
    for size in (8, 64, 1024):
        args = spread_over(AbstractMesh((size,), ("data",), axis_types=(AxisType.Auto,)), 512)
        found.append(counted(monkeypatch, lambda args=args: cg.plan(layers, *args, budget="0.9x")))
    assert found[0][0]["partitioner"] > 1
    assert all(asked == found[0][0] for asked, _ in found)
    assert len({(len(plan.program.stages), len(plan.program.kinds)) for _, plan in found}) == 1
    assert found[0][1].peak_bytes >= found[1][1].peak_bytes >= found[2][1].peak_bytes
