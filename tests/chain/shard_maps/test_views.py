"""Views of what a map is given are taken outside, where each device sees of the whole what it would see of its part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.chain.shard_maps.lying import Lying
from ckptgrad.chain.shard_maps.split import split_shard_maps
from ckptgrad.chain.shard_maps.views import views_outside
from ckptgrad.graph.evaluate import evaluate
from ckptgrad.rules.sharded import body_of
from tests.support.devices import on_devices

CUT = P(("d", "e"))


def found(body, spec=CUT, kind="Auto", check=False):
    mesh = jax.make_mesh((1, 1), ("d", "e"), axis_types=(AxisType[kind],) * 2)
    mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=CUT, check_vma=check)
    w = jax.ShapeDtypeStruct((1, 4, 6), jnp.float32, sharding=NamedSharding(mesh, spec))
    (op,) = cg.trace(mapped, w).operations
    inside = body_of(op)
    return [view.shape for view in views_outside(op, inside, [Lying(op.params["in_specs"][0])]).values()]


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        (lambda w: w[0], [(4, 6)]),
        (lambda w: w.reshape(2, 12)[None], [(2, 12), (1, 2, 12)]),
        (lambda w: w.reshape(6, 4).T, [(6, 4)]),
        (lambda w: (2 * w)[0], []),
        (lambda w: w[:, :2], []),
        (lambda w: w.transpose(1, 0, 2), []),
    ],
)
def test_views_in_order(body, shapes):
    assert found(body) == shapes


@pytest.mark.parametrize("spec", [P(), P("d"), P(("e", "d")), P(None, ("d", "e")), P("d", "e")])
def test_arguments_that_lie_otherwise_are_seen_inside(spec):
    assert found(lambda w: w[0], spec) == []


def test_types_that_say_where_values_lie_are_left_alone():
    assert found(lambda w: w[0], kind="Explicit", check=True) == []


def check_views() -> None:
    """Every device goes on with its own part, in both passes."""
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4, 2), ("d", "e"), axis_types=(AxisType.Auto,) * 2)
    rng = np.random.default_rng(0)
    w, x = jnp.asarray(rng.normal(size=(8, 5, 5))), jnp.asarray(rng.normal(size=(16, 5)))

    for check in (True, False):

        def body(w, x):
            w, flat = w[0], w.reshape(25)
            for _ in range(3):
                x = jnp.tanh(x @ w) + flat[:5]
                x = lax.ppermute(x, "d", [(i, (i + 1) % 4) for i in range(4)])
            return x, lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=3)[0]

        mapped = jax.shard_map(body, mesh=mesh, in_specs=(CUT, CUT), out_specs=(CUT, CUT), check_vma=check)

        def loss(w, x, mapped=mapped):
            a, b = mapped(w, x)
            return jnp.sum(a**2) + jnp.sum(b**3)

        graph = cg.trace(loss, w, x)
        parts = split_shard_maps(graph, cg.target("cpu"))
        assert parts.counts["reshape"] >= 2
        np.testing.assert_allclose(*(jax.jit(lambda *a, g=g: evaluate(g, a))(w, x)[0] for g in (graph, parts)), rtol=1e-13)
        wanted = jax.jit(jax.grad(loss, (0, 1)))(w, x)
        for budget in (None, "min"):
            for a, b in zip(jax.jit(cg.grad(loss, (0, 1), budget=budget))(w, x), wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_gradients_through_views():
    on_devices(8, __name__, "check_views()")
