"""Exponentials, logarithms, trigonometric and hyperbolic functions.

Where the derivative can be written by the output y, it is: then x need not be kept.
"""

from __future__ import annotations

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.compat import ACOSH_BY_FACTORS
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import const, transcendental

mul, div, add, sub, neg = lax.mul, lax.div, lax.add, lax.sub, lax.neg


def one(x: Array) -> Array:
    return const(x, 1)


def tanh_slope(g: Array, y: Array) -> Array:
    """g * (1 - y^2) as h + h*y with h = g * (1 - y), which does not cancel near y = -1."""
    h = mul(g, sub(one(y), y))
    return add(h, mul(h, y))


transcendental(p.exp_p, lambda g, y, x: mul(g, y))
transcendental(p.exp2_p, lambda g, y, x: mul(mul(const(y, np.log(2)), g), y))
transcendental(p.expm1_p, lambda g, y, x: mul(g, add(y, one(y))))
transcendental(p.log_p, lambda g, y, x: div(g, x))
transcendental("log2", lambda g, y, x: div(g, mul(x, const(x, np.log(2)))))
transcendental(p.log1p_p, lambda g, y, x: div(g, add(x, one(y))))
transcendental(p.logistic_p, lambda g, y, x: mul(g, mul(y, sub(one(y), y))))

transcendental(p.sin_p, lambda g, y, x: mul(g, lax.cos(x)))
transcendental(p.cos_p, lambda g, y, x: mul(neg(g), lax.sin(x)))
transcendental(p.tan_p, lambda g, y, x: mul(g, add(one(y), lax.square(y))))
transcendental(p.asin_p, lambda g, y, x: mul(g, lax.rsqrt(sub(one(y), lax.square(x)))))
transcendental(p.acos_p, lambda g, y, x: mul(g, neg(lax.rsqrt(sub(one(y), lax.square(x))))))
transcendental(p.atan_p, lambda g, y, x: div(g, add(one(y), lax.square(x))))
transcendental(
    p.atan2_p,
    lambda g, z, y, x: mul(g, div(x, add(lax.square(y), lax.square(x)))),
    lambda g, z, y, x: mul(g, div(neg(y), add(lax.square(y), lax.square(x)))),
)

transcendental(p.sinh_p, lambda g, y, x: mul(g, lax.cosh(x)))
transcendental(p.cosh_p, lambda g, y, x: mul(g, lax.sinh(x)))
transcendental(p.tanh_p, lambda g, y, x: tanh_slope(g, y))
transcendental(p.asinh_p, lambda g, y, x: mul(g, lax.rsqrt(add(lax.square(x), one(y)))))


def acosh_slope(g: Array, y: Array, x: Array) -> Array:
    if ACOSH_BY_FACTORS:
        return mul(g, mul(lax.rsqrt(sub(x, one(x))), lax.rsqrt(add(x, one(x)))))
    return mul(g, lax.rsqrt(sub(lax.square(x), one(x))))


transcendental(p.acosh_p, acosh_slope)
transcendental(p.atanh_p, lambda g, y, x: div(mul(lax.reciprocal(add(one(y), x)), g), sub(one(y), x)))
