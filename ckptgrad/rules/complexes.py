"""Complex numbers, in JAX's convention: the cotangent of f is the transpose of its derivative.

With z = x + iy held as the pair (x, y), a cotangent is held as (cx, -cy).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import linear, match


@linear(p.real_p, cost="view", axes=axes.elementwise)
def real(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.complex(g, lax.full_like(g, 0)),)


@linear(p.imag_p, cost="view", axes=axes.elementwise)
def imag(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.complex(lax.full_like(g, 0), lax.neg(g)),)


@linear(p.complex_p, cost="elementwise", axes=axes.elementwise)
def complex_(op: Application, g: Array) -> Sequence[Entry]:
    x, y = op.in_avals
    return lambda: match(lax.real(g), x), lambda: match(lax.neg(lax.imag(g)), y)


@linear(p.conj_p, cost="elementwise", axes=axes.elementwise)
def conj(op: Application, g: Array) -> Sequence[Entry]:
    (x,) = op.in_avals
    from_complex = jnp.issubdtype(x.dtype, np.complexfloating)
    return (lambda: lax.conj(g) if from_complex else lax.real(g),)
