"""A `shard_map` in parts gives what it gives whole, value and gradient, and may be planned between the parts."""

from __future__ import annotations

from functools import partial

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
from ckptgrad.target.allocated import compiled_memory
from tests.cases.devices import SMALL, WAYS, looped, placed, ring_attention
from tests.support.devices import on_devices

ROWS, WIDTH = 32, 8


def everything(ws, x, mask, mesh, check=True):
    """Parameters that are gathered, scalars and replicated values that cross, numbers, results made early and passed on."""

    @partial(
        jax.shard_map, mesh=mesh, in_specs=(P("d"), P("d"), P()), out_specs=(P(), P("d"), P("d"), P("d")), check_vma=check
    )
    def mapped(ws, x, mask):
        share = jnp.mean(x)
        total = lax.psum(share, "d")
        count = jnp.argmax(x, 1)
        layers = []
        for w in ws:
            x = x + jnp.tanh(x @ lax.all_gather(w, "d", tiled=True)) * share / (1 + total**2)
            layers.append(x)
        x = jnp.where(mask[None], x, 0) + count[:, None]
        return lax.pmean(jnp.mean(x**2), "d"), x, layers[0], count

    loss, *others = mapped(ws, x, mask)
    return loss + jnp.sum(others[1]), others


def arguments():
    rng = np.random.default_rng(0)
    ws = [jnp.asarray(rng.normal(size=(WIDTH, WIDTH)) / 3) for _ in range(4)]
    return ws, jnp.asarray(rng.normal(size=(ROWS, WIDTH))), jnp.arange(WIDTH) % 3 > 0


def check_parts(check: bool, kind: str) -> None:
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType[kind],))
    args = placed(mesh, arguments(), (P("d"), P("d"), P()))
    fun = partial(everything, mesh=mesh, check=check)
    graph = cg.trace(fun, *args)
    parts = split_shard_maps(graph, cg.target("cpu"))
    assert graph.counts["shard_map"] == 1
    assert parts.counts["shard_map"] > 3
    leaves = jax.tree.leaves(args)
    for a, b in zip(*(jax.jit(partial(evaluate, g))(leaves) for g in (graph, parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    wanted = jax.jit(jax.value_and_grad(fun, has_aux=True))(*args)
    for budget in (None, "min"):
        found = jax.jit(cg.value_and_grad(fun, has_aux=True, budget=budget))(*args)
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def check_planned(way: str) -> None:
    loss, args = WAYS[way]()
    least, most = (cg.value_and_grad(loss, (0, 1), budget=budget).plan(*args) for budget in ("min", "1x"))
    assert len(most.program.stages) > SMALL.depth
    assert least.simulation.recomputations > 0
    assert least.peak_bytes < most.peak_bytes


def check_loops_planned() -> None:
    """From one checkpoint for all steps to all of them, in and out of a scan."""
    for (loss, args), share in ((looped(size=SMALL._replace(steps=32)), 0.2), (ring_attention(), 0.5)):
        everything = compiled_memory(jax.jit(jax.value_and_grad(loss)).lower(*args).compile()).peak_bytes
        found = cg.value_and_grad(loss, budget="min").compile(*args)
        assert found.peak_bytes < share * everything
        np.testing.assert_allclose(found(*args)[0], jax.jit(loss)(*args), rtol=1e-5)


def check_untyped_while() -> None:
    """As long as all devices go on, within less than jax.grad of the steps takes."""
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    (w,), x, _ = placed(mesh, (arguments()[0][:1], jnp.ones((256, WIDTH)), 0), (P("d"), P("d"), P()))

    def loss(w, x, steps, loop):
        @partial(jax.shard_map, mesh=mesh, in_specs=(P("d"), P("d"), P()), out_specs=P(), check_vma=False)
        def run(w, x, steps):
            w = lax.all_gather(w, "d", tiled=True)
            return lax.pmean(jnp.sum(loop(w, x, steps) ** 2), "d")

        return run(w, x, steps)

    def going(w, x, steps):
        return lax.while_loop(lambda c: c[0] < steps, lambda c: (c[0] + 1, jnp.tanh(c[1] @ w)), (0, x))[1]

    def unrolled(w, x, _):
        for _ in range(32):
            x = jnp.tanh(x @ w)
        return x

    wanted = jax.jit(jax.value_and_grad(partial(loss, loop=unrolled), (0, 1)))
    found = cg.value_and_grad(partial(loss, loop=going), (0, 1), budget="min").compile(w, x, 32)
    assert found.peak_bytes < 0.5 * compiled_memory(wanted.lower(w, x, 32).compile()).peak_bytes
    for a, b in zip(jax.tree.leaves(found(w, x, 32)), jax.tree.leaves(wanted(w, x, 32)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
        assert a.sharding.is_equivalent_to(b.sharding, b.ndim)


@pytest.mark.slow
def test_an_untyped_while_is_planned():
    on_devices(8, __name__, "check_untyped_while()")


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (True, "Auto"),
        pytest.param(False, "Auto", marks=pytest.mark.slow),
        pytest.param(True, "Explicit", marks=pytest.mark.slow),
    ],
)
def test_parts_are_the_whole(check, kind):
    on_devices(4, __name__, f"check_parts({check}, {kind!r})")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["pipeline", "a mapped loss"])
def test_bodies_are_planned(way):
    on_devices(8, __name__, f"check_planned({way!r})")


@pytest.mark.slow
def test_loops_inside_are_planned():
    on_devices(8, __name__, "check_loops_planned()")


def one_device():
    return jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))


def in_map(body, check=True):
    return jax.shard_map(body, mesh=one_device(), in_specs=(P(), P("d")), out_specs=P("d"), check_vma=check)


def scanned(w, x):
    """Numbers, stacks that the body makes, entries that are scalars, results of the loop that are returned."""

    def step(c, v):
        return (jnp.tanh(c[0] @ w) * v.mean(), c[1] + 1), (c[0].sum() * c[1], c[0])

    (h, _), (sums, states) = lax.scan(step, (x[0], 0), jnp.stack([x, 2 * x]) * sum(x.shape))
    return x * (h * sums.sum() + states[0] + states[1])


def looping(w, x):
    return lax.while_loop(lambda c: c[1] < 3, lambda c: (jnp.tanh(c[0] @ w), c[1] + 1), (x, 0))[0]


def looping_apart(w, x):
    """Each device goes on as its own values say."""
    return lax.while_loop(lambda c: c.mean() > 2, lambda c: jnp.tanh(c @ w), x)


def nested(w, x):
    return lax.scan(lambda c, _: (looping(w, scanned(w, c)), None), x, None, length=2)[0]


@pytest.mark.parametrize(("body", "check", "loop"), [
    (scanned, True, "scan"), (scanned, False, "scan"), (looping, True, "while"), (looping, False, "while"),
    (looping_apart, True, None), (looping_apart, False, None), (nested, True, "scan"),
])  # fmt: skip
def test_loops_stand_outside(body, check, loop):
    """Where all devices are known to go on for as long."""
    args = jnp.eye(8) * 0.9, jnp.linspace(0.0, 3.0, 64).reshape(8, 8)
    graph = cg.trace(in_map(body, check), *args)
    parts = split_shard_maps(graph, cg.target("cpu"))
    assert loop is None or parts.counts[loop] == 1
    assert (parts is graph) == (loop is None)
    for a, b in zip(*(evaluate(g, args) for g in (graph, parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
