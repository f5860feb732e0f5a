"""The layers of experts; the other models of tokens are rows of the sweep."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ckptgrad.example_models import experts


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
