# pyright: reportUnknownMemberType=false
"""Numbers of three binary digits with an exponent, in blocks of 128 with one scale: a byte each, inexact.

The format is that of `float8_e4m3fn`.  An element is off by at most a 16th of itself, down to a 28,000th of the largest
magnitude of its block, and by at most a 57,000th of that below.  Regime: numbers of very different magnitudes.
Does not: beat `int8` where these are alike.
Source: Micikevicius et al. 2022, FP8 formats for deep learning.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ckptgrad.stage.encodings.blocks import is_real, restored, scaled, special, unscaled
from ckptgrad.stage.encodings.encoding import Encoding, register

FORMAT = jnp.float8_e4m3fn
# The largest number of the format stands for infinity, which it has not.
LARGEST, INFINITE = 416.0, 448.0


def encode(x: Any) -> tuple[Any, Any]:
    """The numbers of an array's elements in the format, in blocks, and the scale of each block.

    Example:
        >>> import jax.numpy as jnp
        >>> numbers, scale = encode(jnp.asarray([0.0, 1.0, -416.0]))
        >>> [float(x) for x in numbers[0, :4]], float(scale[0])
        ([0.0, 1.0, -416.0, 0.0], 1.0)
    """
    blocks, scale = scaled(x, LARGEST)
    numbers = jnp.where(jnp.isfinite(blocks), jnp.clip(blocks, -LARGEST, LARGEST), 0).astype(FORMAT)
    return special(blocks, numbers, infinite=jnp.asarray(INFINITE, FORMAT), nan=jnp.asarray(jnp.nan, FORMAT)), scale


def decode(code: tuple[Any, ...], aval: Any) -> Any:
    """The array of this abstract value, from its numbers and scales."""
    numbers, scale = code
    values = unscaled(numbers, scale, aval)
    return restored(values, numbers, aval, infinite=jnp.asarray(INFINITE, FORMAT), is_nan=jnp.isnan)


register(Encoding("float8", is_real, encode, decode, error=0.3))
