"""Models for accelerators: types alone, whose gradients are typed as they should be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.bench.registry import Bench
from ckptgrad.bench.target_models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_block_is_wrapped_and_nothing_is_made(name):
    loss, args = MODELS[name](Bench(quick=True), jnp.bfloat16, jax.checkpoint)
    leaves = jax.tree.leaves(args)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} <= {jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.int32)}
    assert "remat" in str(jax.make_jaxpr(loss)(*args))
