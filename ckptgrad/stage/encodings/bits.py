# pyright: reportUnknownMemberType=false
"""Masks as bits: eight to a byte, exact.

An eighth of the first axis that divides by eight becomes one bit of each byte, the next eighth the next one: what is shifted
and joined are eight long runs, which compilers vectorise, and where the last axis stays whole, nothing is laid out anew on
devices that lay the last two out in tiles. Where no axis divides, the elements are taken in order.
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
    axis = _cut(mask.shape)
    if axis is None:
        mask, axis = lax.pad(lax.reshape(mask, (mask.size,)), np.bool_(False), [(0, -mask.size % 8, 0)]), 0
    runs = lax.convert_element_type(lax.reshape(mask, _in_eighths(mask.shape, axis)), jnp.uint8)
    joined = lax.index_in_dim(runs, 0, axis, keepdims=False)
    for k in range(1, 8):
        run = lax.index_in_dim(runs, k, axis, keepdims=False)
        joined = lax.bitwise_or(joined, lax.shift_left(run, lax.full_like(run, k)))
    return (joined,)


def decode(code: tuple[Any, ...], aval: Any) -> Any:
    """The array of booleans of this shape, from its bytes."""
    (joined,) = code
    axis = _cut(aval.shape)
    at = axis or 0
    shape = (*joined.shape[:at], 8, *joined.shape[at:])
    runs = lax.broadcast_in_dim(joined, shape, [k for k in range(len(shape)) if k != at])
    bits = lax.shift_right_logical(runs, lax.broadcasted_iota(jnp.uint8, shape, at))
    ones = lax.bitwise_and(bits, lax.full_like(bits, 1)) != 0
    if axis is None:
        ones = lax.slice(lax.reshape(ones, (ones.size,)), (0,), (aval.size,))
    return lax.reshape(ones, aval.shape)


def _cut(shape: tuple[int, ...]) -> int | None:
    """The first axis that divides by eight, None if there is none."""
    return next((k for k, n in enumerate(shape) if n and n % 8 == 0), None)


def _in_eighths(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 8, shape[axis] // 8, *shape[axis + 1 :])


register(Encoding("bits", _takes, encode, decode))
