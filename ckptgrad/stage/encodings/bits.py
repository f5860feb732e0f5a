# pyright: reportUnknownMemberType=false
"""Masks as bits: eight to a byte, exact.

Element k stands in byte k mod m, of m bytes: so what is shifted and joined are eight long runs, which compilers vectorise.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.stage.encodings.encoding import FEWEST, Encoding, register


def _takes(aval: Any) -> bool:
    return aval.dtype == np.bool_ and aval.size >= FEWEST


def encode(mask: Any) -> tuple[Any]:
    """Bytes of the elements of an array of booleans.

    Example:
        >>> import jax.numpy as jnp
        >>> encode(jnp.arange(16) < 3)[0].tolist()
        [3, 1]
    """
    padded = lax.pad(lax.reshape(mask, (mask.size,)), np.bool_(False), [(0, -mask.size % 8, 0)])
    runs = lax.convert_element_type(lax.reshape(padded, (8, padded.size // 8)), jnp.uint8)
    joined = lax.index_in_dim(runs, 0, keepdims=False)
    for k in range(1, 8):
        run = lax.index_in_dim(runs, k, keepdims=False)
        joined = lax.bitwise_or(joined, lax.shift_left(run, lax.full_like(run, k)))
    return (joined,)


def decode(code: tuple[Any, ...], aval: Any) -> Any:
    """The array of booleans of this shape, from its bytes."""
    (joined,) = code
    shape = (8, joined.size)
    runs = lax.broadcast_in_dim(joined, shape, (1,))
    bits = lax.shift_right_logical(runs, lax.broadcasted_iota(jnp.uint8, shape, 0))
    flat = lax.reshape(lax.bitwise_and(bits, lax.full_like(bits, 1)), (8 * joined.size,))
    return lax.reshape(lax.slice(flat, (0,), (aval.size,)) != 0, aval.shape)


register(Encoding("bits", _takes, encode, decode))
