# pyright: reportUnknownMemberType=false
"""Numbers with eight binary digits and the exponents of single precision: two bytes each, inexact.

An element is off by at most a 256th of itself.  Numbers of double precision beyond the range of single precision come back
infinite, or as 0.  Regime: where `int8` is not exact enough, or magnitudes are very different.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from ckptgrad.stage.encodings.encoding import FEWEST, Encoding, register


def _takes(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating) and aval.dtype.itemsize > 2 and aval.size >= FEWEST


def encode(x: Any) -> tuple[Any]:
    """The nearest numbers of the format.

    Example:
        >>> import jax.numpy as jnp
        >>> encode(jnp.asarray([1.0, 1.001]))[0].tolist()
        [1.0, 1.0]
    """
    return (lax.convert_element_type(x, jnp.bfloat16),)


def decode(code: tuple[Any, ...], aval: Any) -> Any:
    """The array of this abstract value."""
    return lax.convert_element_type(code[0], aval.dtype)


register(Encoding("bfloat16", _takes, encode, decode, error=0.05))
