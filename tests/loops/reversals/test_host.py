"""Loops that store in the host's memory, through the doors: on a CPU, which has one for JAX, and compiled for chips.

Results, gradients and prices of each way are tested in `tests/loops/test_reversals.py`, as those of all ways.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import ckptgrad as cg
from ckptgrad.chain.kind import stored_in_host
from ckptgrad.errors import OptionError
from ckptgrad.loops.reversals.host import CheckpointsInHost, StoreAllInHost
from tests.support.loop_plans import only
from tests.support.targets import compile_only

WAYS = [StoreAllInHost, CheckpointsInHost]
W, X = jnp.sin(jnp.arange(6 * 16.0)).reshape(6, 4, 4) / 2, jnp.cos(jnp.arange(12.0)).reshape(3, 4)


def loss(ws, x):
    return jnp.mean(lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0] ** 2)


def pushed(gradient):
    return lambda w, x: jax.jvp(gradient, (w, x), (jnp.cos(w), jnp.sin(x)))[1]


TRANSFORMED = {
    "plain": lambda gradient: gradient,
    "jit": jax.jit,
    "vmap": lambda gradient: lambda w, x: jax.vmap(gradient, (None, 0))(w, jnp.stack([x, -x])),
    "jvp": pushed,
    "reverse": lambda gradient: jax.grad(lambda w, x: sum((g**2).sum() for g in gradient(w, x)), (0, 1)),
}
QUICK = {(StoreAllInHost, "jvp"), (StoreAllInHost, "vmap"), (CheckpointsInHost, "jit")}
ROWS = [
    pytest.param(way, name, id=f"{way.__name__}-{name}", marks=[] if (way, name) in QUICK else [pytest.mark.slow])
    for way in WAYS
    for name in TRANSFORMED
]


@pytest.mark.parametrize(("way", "name"), ROWS)
def test_gradients_under_transformations(way, name):
    transformed = TRANSFORMED[name]
    with only(lambda reversal: type(reversal) is way) as offered:
        found = transformed(cg.grad(loss, (0, 1), target=cg.target("cpu").with_host(2**20)))(W, X)
    assert offered
    for a, b in zip(found, transformed(jax.grad(loss, (0, 1)))(W, X), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_a_cpu_has_no_other_memory():
    with pytest.raises(OptionError, match="runtime='staged'"):
        cg.grad(loss, budget="min", tiers=["host:1MiB"])(W, X)


def test_one_program_sends_to_the_host_alone():
    with pytest.raises(OptionError, match=r"'disk:/tmp' needs runtime='staged'"):
        cg.grad(loss, budget="min", tiers=["disk:/tmp:1MiB"])


# A boundary of 16 MiB, which the fast memory of a TPU cannot hold.
LAYERS, ROWS_OF_X, WIDTH = 32, 8192, 512
ACT = ROWS_OF_X * WIDTH * 4


def offloaded_by_jax(ws, x):
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["x"],
        offload_src="device",
        offload_dst="pinned_host",
    )

    def step(x, w):
        x = checkpoint_name(x, "x")
        return x + jnp.tanh(x @ w), None

    return jnp.mean(lax.scan(jax.checkpoint(step, policy=policy, prevent_cse=False), x, ws)[0] ** 2)


@pytest.mark.parametrize("chip", ["h100", pytest.param("v5e:2x2", marks=pytest.mark.slow)])
def test_device_bytes_are_those_of_jaxs_own_offloading(chip):
    target = compile_only(chip)
    place = jax.sharding.SingleDeviceSharding(target.devices[0])
    ws = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=place)
    x = jax.ShapeDtypeStruct((ROWS_OF_X, WIDTH), jnp.float32, sharding=place)
    certified = cg.value_and_grad(loss, budget="min", target=target, tiers=["host:1GiB"]).compile(ws, x)
    stats = jax.jit(jax.value_and_grad(offloaded_by_jax)).lower(ws, x).compile().memory_analysis()
    assert certified.host_bytes == stats.host_temp_size_in_bytes == LAYERS * ACT
    assert certified.temporary_bytes <= 1.05 * stats.temp_size_in_bytes
    assert "in host memory  512.0 MiB" in str(certified)


def test_no_more_is_stored_than_the_host_has_room_for():
    target = compile_only("h100")
    structs = (
        jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((ROWS_OF_X, WIDTH), jnp.float32),
    )
    given = 10 * ACT
    with only(lambda reversal: type(reversal) is CheckpointsInHost):
        certified = cg.value_and_grad(loss, budget="min", target=target, tiers=[f"host:{given}"]).compile(*structs)
    assert 0 < certified.host_bytes <= given


def two_loops(ws, x):
    x = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0]
    return loss(ws, jnp.sin(x))


def test_stages_together_store_no_more_than_the_host_has_room_for():
    """Each may alone; what the others have no room for is planned around."""

    def planned(size):
        target = cg.target("cpu").with_host(size)
        return cg.plan(two_loops, W, X, target=target, costs="estimate", policy=stores_most)

    def stored(plan):
        kept = plan.schedule.kept.items()
        return [stored_in_host(plan.program.stages[i].kind.options[k]) for i, k in kept]

    def stores_most(costs, budget):
        chosen = [max(range(len(s.options)), key=lambda k: ("host" in s.options[k].name, -k)) for s in costs.stages]
        actions = [cg.Forward(i, k) for i, k in enumerate(chosen)]
        back = [action for i in reversed(range(len(chosen))) for action in (cg.Backward(i), cg.Free(i))]
        return cg.Schedule((*actions, *back), "stores most")

    wanted = stored(planned(2**20))
    assert sum(size > 0 for size in wanted) > 1
    room = int(0.75 * sum(wanted))
    assert all(size <= room for size in wanted)
    assert sum(stored(planned(room))) <= room
