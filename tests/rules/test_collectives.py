"""Communication: under vmap with an axis name here, on a mesh of four devices in a process of its own."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.support.arrays import normal
from tests.support.compare import assert_same, quick
from tests.support.devices import on_four_devices

X = normal(0, 4, 4, 3)
ROWS = jnp.arange(4)

COLLECTIVES = {
    "psum": lambda x: lax.psum(jnp.sin(x), "i") * x,
    "psum of two axes": lambda x: lax.psum(x * x, ("i",)) * x,
    "pmean": lambda x: lax.pmean(jnp.sin(x), "i") * x,
    "ppermute": lambda x: lax.ppermute(jnp.sin(x), "i", [(0, 1), (1, 2), (2, 3), (3, 0)]) * x,
    "all_gather": lambda x: lax.all_gather(jnp.sin(x), "i") * x,
    "all_gather tiled": lambda x: lax.all_gather(jnp.sin(x), "i", axis=1, tiled=True) * x[:, :1],
    "psum_scatter": lambda x: lax.psum_scatter(jnp.sin(x), "i") * x[0],
    "psum_scatter tiled": lambda x: lax.psum_scatter(jnp.sin(x), "i", tiled=True) * x[:1],
    "all_to_all": lambda x: lax.all_to_all(jnp.sin(x), "i", 0, 0) * x,
    "all_to_all tiled": lambda x: lax.all_to_all(jnp.sin(x), "i", 0, 1, tiled=True) * x[:1, :1],
    "axis_index": lambda x: x * lax.axis_index("i") * lax.axis_size("i"),
}


@pytest.mark.parametrize("fun", COLLECTIVES.values(), ids=COLLECTIVES)
def test_inside_vmap(fun):
    """Each row's gradient is taken inside, so the collectives are differentiated, not batched away."""

    def gradients(grad):
        return jax.vmap(grad(lambda x: (fun(x) ** 2).sum()), axis_name="i")(X)

    assert_same(gradients(cg.grad), gradients(jax.grad), scale=8)
    assert_same(gradients(partial(cg.grad, budget="min")), gradients(jax.grad), scale=8)


@pytest.mark.parametrize("fun", COLLECTIVES.values(), ids=COLLECTIVES)
def test_forward_mode_inside_vmap(fun):
    def tangents(jvp):
        return jax.vmap(lambda x: jvp(fun, (x,), (jnp.cos(x),)), axis_name="i")(X)

    assert_same(tangents(cg.jvp), tangents(jax.jvp), scale=8)


@pytest.mark.parametrize("fun", COLLECTIVES.values(), ids=COLLECTIVES)
def test_around_vmap(fun):
    def loss(x):
        return (jax.vmap(fun, axis_name="i")(x) ** 2).sum()

    assert_same(cg.grad(loss)(X), jax.grad(loss)(X), scale=8)


def test_extrema_over_devices_are_refused_as_in_jax():
    with pytest.raises(cg.NoDerivativeError, match="pmax"):
        jax.vmap(cg.grad(lambda x: lax.pmax(x, "i")), axis_name="i")(ROWS * 1.0)
    with pytest.raises(NotImplementedError):
        jax.vmap(jax.grad(lambda x: lax.pmax(x, "i")), axis_name="i")(ROWS * 1.0)


def mesh_cases():
    """(name, function of whole arrays under the mesh, arguments); used here and by the process with devices."""
    n = jax.device_count()
    mesh = jax.make_mesh((n,), ("d",), axis_types=(AxisType.Auto,))
    x, w = jnp.linspace(-1, 1, 8 * 3).reshape(8, 3), jnp.linspace(0, 1, 9).reshape(3, 3)
    ring = [(i, (i + 1) % n) for i in range(n)]
    bodies = {
        "data parallel": (lambda x, w: lax.psum(jnp.tanh(x @ w).sum(0), "d"), P()),
        "ring": (lambda x, w: jnp.sin(lax.ppermute(x @ w, "d", ring)) * x, P("d")),
        "gather": (lambda x, w: jnp.sin(lax.all_gather(x, "d", tiled=True).sum(0) * x) @ w, P("d")),
        "scatter": (lambda x, w: lax.psum_scatter(jnp.tile(x, (n, 1)) @ w, "d", tiled=True), P("d")),
        "transposed": (lambda x, w: lax.all_to_all(jnp.tile(x[:1] @ w, (n, 1)), "d", 0, 0, tiled=True) ** 2, P("d")),
        "a loop": (lambda x, w: lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, None, length=3)[0], P("d")),
    }
    for name, (body, out) in bodies.items():
        for typed in (True, False):
            mapped = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=out, check_vma=typed)
            yield f"{name}, {'typed' if typed else 'untyped'}", lambda x, w, f=mapped: (f(x, w) ** 2).sum(), (x, w)


def check_meshes() -> int:
    count = 0
    for _, fun, args in mesh_cases():
        wanted = quick(jax.grad(fun, (0, 1)))(*args)
        assert_same(quick(cg.grad(fun, (0, 1)))(*args), wanted, scale=20)
        tangents = tuple(jnp.cos(a) for a in args)
        assert_same(
            quick(lambda *t, f=fun, a=args: cg.jvp(f, a, t))(*tangents),
            quick(lambda *t, f=fun, a=args: jax.jvp(f, a, t))(*tangents),
            scale=20,
        )
        count += 1
    return count


def check_shardings() -> int:
    """Arrays sharded over a mesh, by the compiler's choice (Auto) and as part of their types (Explicit)."""
    count = 0
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            x = jax.device_put(jnp.linspace(-1, 1, 24).reshape(8, 3), P("d"))
            w = jnp.linspace(0, 1, 9).reshape(3, 3)
            gather = jax.sharding.reshard if kind == AxisType.Explicit else lax.with_sharding_constraint

            def loss(x, w, gather=gather):
                for _ in range(3):
                    x = x + jnp.tanh(x @ w) / (1 + x.max(1, keepdims=True) ** 2)
                return (gather(x, P(None, None)).reshape(4, 6) ** 2).mean()

            wanted = quick(jax.grad(loss, (0, 1)))(x, w)
            for budget in (None, "min"):
                found = quick(cg.grad(loss, (0, 1), budget=budget))(x, w)
                assert_same(found, wanted, scale=20)
                assert [g.sharding.spec for g in found] == [g.sharding.spec for g in wanted]
                count += 1
            assert_same(quick(lambda *t, f=loss: cg.jvp(f, t, t))(x, w), jax.jvp(loss, (x, w), (x, w)), scale=20)
    return count


def check_bytes() -> bool:
    """A recomputed stage is left whole and still sharded: each device holds its share."""
    n = jax.device_count()
    mesh = jax.make_mesh((n,), ("d",), axis_types=(AxisType.Auto,))
    x, ws = jnp.linspace(-1, 1, 512 * 32).reshape(512, 32), [jnp.eye(32)] * 8

    def loss(ws, x):
        for w in ws:
            x = x + jnp.tanh(x @ w)
        return (x**2).mean()

    def temporaries(policy, x):
        return compiled_memory(jax.jit(cg.grad(loss, policy=policy)).lower(ws, x).compile()).temporary_bytes

    whole, share = (temporaries("sqrt", v) for v in (x, jax.device_put(x, jax.NamedSharding(mesh, P("d")))))
    products = len(ws) * ws[0].nbytes  # Sums over devices of parameter gradients.
    return share <= 1.1 * whole / n + products and whole < 0.8 * temporaries("store_all", x)


@pytest.mark.slow
def test_on_one_device():
    assert (check_meshes(), check_shardings(), check_bytes()) == (12, 4, True)


def test_on_four_devices():
    on_four_devices(__name__, "assert (check_meshes(), check_shardings(), check_bytes()) == (12, 4, True)")


def test_the_backward_of_a_shard_map_does_not_run_its_forward_again():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    w = jnp.ones((64, 64))

    def body(x, w):
        for _ in range(3):
            x = jnp.tanh(x @ w)
        return lax.psum((x**2).sum(), "d")

    mapped = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P())
    programs = [jax.jit(grad(mapped, (0, 1))).lower(jnp.ones((32, 64)), w).compile() for grad in (cg.grad, jax.grad)]
    ours, theirs = (program.cost_analysis()["flops"] for program in programs)
    assert ours <= 1.02 * theirs
