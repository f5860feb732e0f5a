"""Models for accelerators: types alone, whose gradients are typed as they should be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.bench.registry import Bench
from ckptgrad.bench.target_models import MODELS, experts


@pytest.mark.parametrize("name", MODELS)
def test_the_block_is_wrapped_and_nothing_is_made(name):
    loss, args = MODELS[name](Bench(quick=True), jnp.bfloat16, jax.checkpoint)
    leaves = jax.tree.leaves(args)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} <= {jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.int32)}
    assert "remat" in str(jax.make_jaxpr(loss)(*args))


def test_a_token_is_sent_to_one_expert_as_long_as_there_is_room():
    """With two experts and room for all: the chosen expert's product times its share."""
    loss, (params, x) = experts(layers=1, width=4, hidden=4, count=2, groups=1, tokens=8, spare=2.0)
    (layer,) = params
    shares = jax.nn.softmax(x @ layer["router"], -1)
    chosen = jnp.argmax(shares, -1)
    outputs = jnp.stack([jax.nn.gelu(x @ layer["up"][e]) @ layer["down"][e] for e in range(2)])
    taken = jnp.take_along_axis(outputs, chosen[None, ..., None], 0)[0]
    share = jnp.take_along_axis(shares, chosen[..., None], -1)
    assert jnp.allclose(loss(params, x), jnp.mean((x + share * taken) ** 2), rtol=1e-5)
