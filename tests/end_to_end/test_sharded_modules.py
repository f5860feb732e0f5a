"""Flax NNX modules whose parameters lie over several devices: gradients and batch statistics of `flax.nnx`, as these lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from tests.support.devices import on_devices

WIDTH, HIDDEN, ROWS = 16, 32, 512


class Block(nnx.Module):
    def __init__(self, rngs):
        kinds = {"dtype": jnp.float64, "param_dtype": jnp.float64, "rngs": rngs}
        self.norm = nnx.BatchNorm(WIDTH, **kinds)
        self.up, self.down = nnx.Linear(WIDTH, HIDDEN, **kinds), nnx.Linear(HIDDEN, WIDTH, **kinds)

    def __call__(self, x):
        return x + self.down(jnp.tanh(self.up(self.norm(x))))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(rngs) for _ in range(3)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def loss(model, x):
    return jnp.mean(model(x) ** 2)


def laid_out(mesh):
    """A model, its hidden axes cut over devices."""
    model = Model()

    def place(path, value):
        names = [str(getattr(key, "key", "")) for key in path]
        cut = {"up": P(None, "model"), "down": P("model")}
        spec = next((cut[name] for name in names if name in cut), P()) if value.ndim == 2 else P()
        return jax.device_put(value, NamedSharding(mesh, spec))

    nnx.update(model, jax.tree_util.tree_map_with_path(place, nnx.state(model)))
    return model


def check(budget) -> None:
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    x = jax.device_put(np.random.default_rng(0).normal(size=(ROWS, WIDTH)), NamedSharding(mesh, P("data")))
    theirs, ours = laid_out(mesh), laid_out(mesh)
    assert ours.blocks[0].up.kernel[...].sharding.spec == P(None, "model")
    wanted = nnx.jit(nnx.value_and_grad(loss))(theirs, x)
    door = cg.nnx.value_and_grad(loss, budget=budget)
    certified = door.compile(laid_out(mesh), x)
    assert certified.plan.program.devices == 8
    assert certified.budget is None or certified.peak_bytes <= certified.budget
    for f, w in zip(jax.tree.leaves(door(ours, x)), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-14)
        assert f.sharding.is_equivalent_to(w.sharding, w.ndim), (f.sharding, w.sharding)
    for f, w in zip(*(jax.tree.leaves(nnx.state(model)) for model in (ours, theirs)), strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, "0.7x", "min"])
def test_gradients_of_sharded_modules(budget):
    on_devices(8, __name__, f"check({budget!r})")
