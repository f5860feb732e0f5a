"""A byte an element, off by at most a 16th of itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.stage.encodings.blocks import BLOCK
from ckptgrad.stage.encodings.float8 import FORMAT, decode, encode


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_an_element_is_off_by_a_share_of_itself(seed):
    x = np.exp(3 * np.random.default_rng(seed).normal(size=2 * BLOCK)).astype(np.float32)
    code = encode(jnp.asarray(x))
    assert [(c.dtype, c.size) for c in code] == [(FORMAT, x.size), (jnp.float32, 2)]
    off = np.abs(np.asarray(decode(code, jax.typeof(jnp.asarray(x)))) - x)
    most = np.repeat(np.max(x.reshape(2, BLOCK), axis=1), BLOCK)
    assert np.all(off <= np.maximum(x / 16, most / 57_000) * 1.0001)
