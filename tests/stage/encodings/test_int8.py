"""A byte an element, off by at most a 250th of the largest magnitude of its block."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.stage.encodings.blocks import BLOCK
from ckptgrad.stage.encodings.int8 import decode, encode


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.floats(-30, 30))
def test_no_element_is_off_by_more_than_half_a_step(seed, exponent):
    x = jnp.asarray(10**exponent * np.random.default_rng(seed).normal(size=(3, BLOCK)), jnp.float32)
    code = encode(x)
    assert [(c.dtype, c.size) for c in code] == [(jnp.int8, x.size), (jnp.float32, 3)]
    off = np.abs(np.asarray(decode(code, jax.typeof(x))) - np.asarray(x))
    assert np.all(off <= (1 / 250 + 1e-6) * np.max(np.abs(x), axis=1, keepdims=True))
