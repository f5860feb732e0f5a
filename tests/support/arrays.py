"""Arrays to test with, made by NumPy: `jax.random` compiles a program for each shape, which takes longer than most tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Normal numbers in float32."""
    return jnp.asarray((scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32))
