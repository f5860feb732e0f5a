"""Two bytes an element, with the range of single precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.stage.encodings.encoding import get_encoding

ENCODING = get_encoding("bfloat16")


def test_the_range_of_single_precision_comes_back_nearly():
    x = jnp.asarray([0.0, 1e-37, -3.14159, 3e38, jnp.inf, -jnp.inf])
    code = ENCODING.encode(x)
    assert code[0].dtype == jnp.bfloat16
    back = np.asarray(ENCODING.decode(code, jax.typeof(x)))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, x, rtol=1 / 256)
    assert np.isnan(ENCODING.decode(ENCODING.encode(jnp.asarray([jnp.nan])), jax.typeof(jnp.zeros(1)))).all()


@pytest.mark.parametrize(("dtype", "taken"), [("float32", True), ("bfloat16", False), ("float16", False), ("int32", False)])
def test_only_what_is_larger_is_taken(dtype, taken):
    assert ENCODING.takes(jax.ShapeDtypeStruct((4096,), dtype)) is taken
