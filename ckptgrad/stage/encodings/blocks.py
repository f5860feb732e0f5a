# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Blocks of `BLOCK` elements with one scale each: what `int8` and `float8` share.

An array is read in the order of its elements and filled up with zeros.  The scale of a block takes its largest finite
magnitude to the largest number of the code; of a block of zeros, or of numbers too small for a scale that is itself a normal
number, it is 0, and what comes back is 0.  Numbers that are not finite have codes of their own.  Numbers of less than single
precision are scaled in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ckptgrad.errors import InexactDerivativeError
from ckptgrad.stage.encodings.encoding import FEWEST

BLOCK = 128


def is_real(aval: Any) -> bool:
    """Whether it is an array of real floating-point numbers that are larger than their codes."""
    known = jnp.issubdtype(aval.dtype, jnp.floating) and aval.dtype.itemsize > 1
    return known and aval.size >= FEWEST


@jax.custom_jvp
def rounded(x: Any) -> Any:
    """`x`, of which what is rounded to steps has no derivative."""
    return x


@rounded.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise InexactDerivativeError


def scaled(x: Any, largest: float) -> tuple[Any, Any]:
    """The elements in blocks, the finite ones between -`largest` and `largest`, and the scale of each block."""
    wide = rounded(x).astype(_wide(x.dtype))
    flat = lax.reshape(wide, (x.size,))
    if x.size % BLOCK:
        flat = lax.pad(flat, jnp.zeros((), flat.dtype), [(0, -x.size % BLOCK, 0)])
    blocks = lax.reshape(flat, (flat.size // BLOCK, BLOCK))
    finite = jnp.isfinite(blocks)
    most = jnp.max(jnp.where(finite, jnp.abs(blocks), 0), axis=1)
    least = 2 * largest * float(jnp.finfo(flat.dtype).tiny)
    scale = jnp.where(most < least, 0, most / largest)
    return jnp.where(finite & (scale[:, None] == 0), 0, blocks / scale[:, None]), scale


def unscaled(blocks: Any, scale: Any, aval: Any) -> Any:
    """The array of this abstract value, from its scaled blocks."""
    flat = lax.reshape(blocks.astype(scale.dtype) * scale[:, None], (blocks.size,))
    return lax.reshape(lax.slice(flat, (0,), (aval.size,)), aval.shape).astype(aval.dtype)


def special(blocks: Any, code: Any, *, infinite: Any, nan: Any) -> Any:
    """The code of scaled blocks, with these codes for infinite numbers (negated for negative ones) and for nan."""
    signed = jnp.where(blocks > 0, infinite, -infinite)
    return jnp.where(jnp.isnan(blocks), nan, jnp.where(jnp.isinf(blocks), signed, code)).astype(code.dtype)


def restored(values: Any, code: Any, aval: Any, *, infinite: Any, is_nan: Callable[[Any], Any]) -> Any:
    """An array decoded as if its code had no special numbers, with those in their places."""
    flat = lax.reshape(lax.slice(lax.reshape(code, (code.size,)), (0,), (aval.size,)), aval.shape)
    infinities = jnp.where(flat == infinite, jnp.inf, jnp.where(flat == -infinite, -jnp.inf, values))
    return jnp.where(is_nan(flat), jnp.nan, infinities).astype(aval.dtype)


def _wide(dtype: Any) -> Any:
    return dtype if dtype.itemsize >= 4 else jnp.float32
