"""Discrete Fourier transforms: linear, with symmetric matrices where input and output are complex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import linear

FULL = (lax.FftType.FFT, lax.FftType.IFFT)


@linear(p.fft_p, cost="heavy")
def fft(op: Application, g: Array) -> Sequence[Entry]:
    kind, lengths = op.params["fft_type"], op.params["fft_lengths"]
    (x,) = op.in_avals

    def entry() -> Array:
        if kind in FULL:
            return lax.fft(g, kind, lengths)
        if kind == lax.FftType.RFFT:
            weights = _along_last(1 / _weights(lengths), g.shape, g.dtype)
            return lax.fft(lax.mul(lax.conj(g), weights), lax.FftType.IRFFT, lengths)
        spectrum = lax.conj(lax.fft(g, lax.FftType.RFFT, lengths))
        return lax.mul(spectrum, _along_last(_weights(lengths), x.shape, x.dtype))

    return (entry,)


def _weights(lengths: Sequence[int]) -> np.ndarray:
    """How often each kept frequency counts in an inverse real transform, over the number of points."""
    n = lengths[-1]
    twice = 2 * np.arange(n // 2 + 1)
    return np.where((twice == 0) | (twice == n), 1.0, 2.0) / math.prod(lengths)


def _along_last(weights: np.ndarray, shape: tuple[int, ...], dtype: Any) -> Any:
    return lax.broadcast_in_dim(jnp.asarray(weights, dtype), shape, (len(shape) - 1,))
