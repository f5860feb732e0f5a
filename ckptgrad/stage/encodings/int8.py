# pyright: reportUnknownMemberType=false
"""Numbers in steps of a 125th of the largest magnitude of their block of 128: a byte each, inexact.

An element is off by at most a 250th of that magnitude.  Regime: activations, whose magnitudes within a block are alike.
Does not: keep numbers that are far smaller than their neighbours; they come back as 0 (`float8` keeps some digits).
Source: block-wise quantisation, Dettmers, Lewis, Shleifer and Zettlemoyer 2022; of activations for the backward, Chakrabarti
and Moseley 2019, Chen et al. 2021 (ActNN).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ckptgrad.stage.encodings.blocks import is_real, restored, scaled, special, unscaled
from ckptgrad.stage.encodings.encoding import Encoding, register

LARGEST, INFINITE, NAN = 125, 126, -128


def encode(x: Any) -> tuple[Any, Any]:
    """The steps of an array's elements, in blocks, and the scale of each block.

    Example:
        >>> import jax.numpy as jnp
        >>> steps, scale = encode(jnp.asarray([0.0, 5.0, -10.0]))
        >>> steps[0, :4].tolist(), round(float(scale[0]), 6)
        ([0, 62, -125, 0], 0.08)
    """
    blocks, scale = scaled(x, LARGEST)
    steps = jnp.where(jnp.isfinite(blocks), jnp.clip(jnp.round(blocks), -LARGEST, LARGEST), 0).astype(jnp.int8)
    return special(blocks, steps, infinite=jnp.int8(INFINITE), nan=jnp.int8(NAN)), scale


def decode(code: tuple[Any, ...], aval: Any) -> Any:
    """The array of this abstract value, from its steps and scales."""
    steps, scale = code
    values = unscaled(steps, scale, aval)
    return restored(values, steps, aval, infinite=jnp.int8(INFINITE), is_nan=lambda c: c == NAN)


register(Encoding("int8", is_real, encode, decode, error=0.05))
