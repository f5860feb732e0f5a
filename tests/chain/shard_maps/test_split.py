"""Which `shard_map`s are taken apart, and which stay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.chain.shard_maps.split import split_shard_maps
from ckptgrad.graph.evaluate import evaluate
from tests.chain.shard_maps.test_parts import in_map, scanned


@pytest.mark.parametrize("loop", ["scan", "while"])
def test_maps_in_loops_are_taken_apart(loop):
    layer = in_map(scanned)

    def loss(w, x):
        if loop == "scan":
            return lax.scan(lambda x, _: (layer(w, x), None), x, None, length=2)[0].sum()
        return lax.while_loop(lambda c: c[1] < 2, lambda c: (layer(w, c[0]), c[1] + 1), (x, 0))[0].sum()

    args = jnp.eye(8) * 0.9, jnp.linspace(0.0, 3.0, 64).reshape(8, 8)
    graph = cg.trace(loss, *args)
    parts = split_shard_maps(graph, cg.target("cpu"))
    (whole,), (found,) = ([op for op in g.operations if op.name == loop] for g in (graph, parts))
    assert str(whole.params).count("shard_map[") < str(found.params).count("shard_map[")
    np.testing.assert_allclose(evaluate(parts, args)[0], evaluate(graph, args)[0], rtol=1e-6)


def test_what_is_no_chain_stays_one_operation():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    short = jax.shard_map(lambda x: jnp.sin(x), mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    printed = jax.shard_map(
        lambda x: [jax.debug.print("{}", x[0]), jnp.sin(jnp.cos(jnp.sin(x)))][1],
        mesh=mesh,
        in_specs=P("d"),
        out_specs=P("d"),
    )
    for fun in (short, printed, jnp.sin):
        graph = cg.trace(fun, jnp.ones(64))
        assert split_shard_maps(graph, cg.target("cpu")).operations == graph.operations


@pytest.mark.parametrize("budget", [None, "min"])
def test_saved_plans_fit_the_whole_and_the_parts(budget):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))

    def body(x, w):
        for _ in range(4):
            x = jnp.tanh(x @ w)
        return lax.psum((x**2).sum(), "d")

    mapped = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P())
    args = jnp.ones((32, 16)), jnp.eye(16)
    plan = cg.plan(mapped, *args, budget=budget)
    again = cg.value_and_grad(mapped, policy=cg.load_plan(plan.to_json()))
    assert again.plan(*args).schedule.actions == plan.schedule.actions
    np.testing.assert_allclose(again(*args)[1], jax.grad(mapped)(*args), rtol=1e-6)


def test_maps_stay_whole_where_the_budget_allows_it():
    """Shares are of what storing everything takes without a budget, and within that the plan is the one without."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))

    def loss(w, x):
        def body(w, x):
            x = lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=16)[0]
            return lax.psum((x**2).sum(), "d")

        return jax.shard_map(body, mesh=mesh, in_specs=(P(), P("d")), out_specs=P())(w, x)

    args = jnp.eye(16), jnp.ones((256, 16))
    free, most, half, least = (cg.plan(loss, *args, budget=budget) for budget in (None, "1x", "0.5x", "min"))
    assert most.budget == most.peak_bytes == free.peak_bytes
    assert most.seconds == free.seconds < least.seconds
    assert [len(plan.program.stages) for plan in (free, most)] == [1, 1]
    assert half.budget == free.peak_bytes // 2
    assert least.peak_bytes <= half.peak_bytes <= half.budget
