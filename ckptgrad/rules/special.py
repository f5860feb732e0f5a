"""Error, gamma, beta and Bessel functions."""

from __future__ import annotations

import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.numpy import finfo

from ckptgrad.rules.kinds import const, elementwise

mul, div, add, sub, neg, exp, log = lax.mul, lax.div, lax.add, lax.sub, lax.neg, lax.exp, lax.log

# d erf(x)/dx = 2/sqrt(pi) exp(-x^2)
ERF_SLOPE = 2 / np.sqrt(np.pi)

elementwise(p.erf_p, lambda g, y, x: mul(mul(const(y, ERF_SLOPE), g), exp(neg(lax.square(x)))))
elementwise(p.erfc_p, lambda g, y, x: mul(mul(const(y, -ERF_SLOPE), g), exp(neg(lax.square(x)))))
elementwise(p.erf_inv_p, lambda g, y, x: mul(mul(const(y, np.sqrt(np.pi) / 2), g), exp(lax.square(y))))

elementwise(p.lgamma_p, lambda g, y, x: mul(g, lax.digamma(x)))
elementwise(p.digamma_p, lambda g, y, x: mul(g, lax.polygamma(const(y, 1), x)))
elementwise(p.polygamma_p, None, lambda g, y, m, x: mul(g, lax.polygamma(add(m, const(y, 1)), x)))


def gamma_density(a, x):
    """The derivative of igamma(a, x) in x: x^(a-1) exp(-x) / gamma(a)."""
    return exp(sub(add(neg(x), mul(sub(a, const(a, 1)), log(x))), lax.lgamma(a)))


def beta_density(a, b, x):
    """The derivative of betainc(a, b, x) in x: x^(a-1) (1-x)^(b-1) / beta(a, b)."""
    log_beta = sub(add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(add(a, b)))
    powers = add(mul(sub(b, const(b, 1)), lax.log1p(neg(x))), mul(sub(a, const(a, 1)), log(x)))
    return exp(sub(powers, log_beta))


elementwise(
    p.igamma_p,
    lambda g, y, a, x: mul(g, lax.igamma_grad_a(a, x)),
    lambda g, y, a, x: mul(g, gamma_density(a, x)),
)
elementwise(
    p.igammac_p,
    lambda g, y, a, x: neg(mul(g, lax.igamma_grad_a(a, x))),
    lambda g, y, a, x: neg(mul(g, gamma_density(a, x))),
)


def no_derivative(g, *_):
    raise NotImplementedError("betainc has no derivative rule for its first two arguments")


elementwise(
    p.regularized_incomplete_beta_p,
    no_derivative,
    no_derivative,
    lambda g, y, a, b, x: mul(beta_density(a, b, x), g),
)


def bessel_i1e_slope(y, x):
    """i0e(x) - y (sign(x) + 1/x), which is 1/2 at 0."""
    eps = const(x, finfo(x.dtype).eps)
    regular = lax.gt(lax.abs(x), eps)
    safe = lax.select(regular, x, lax.full_like(x, eps))
    slope = sub(lax.bessel_i0e(safe), mul(y, add(lax.sign(safe), lax.reciprocal(safe))))
    return lax.select(regular, slope, lax.full_like(x, 0.5))


elementwise(p.bessel_i0e_p, lambda g, y, x: mul(g, sub(lax.bessel_i1e(x), mul(lax.sign(x), y))))
elementwise(p.bessel_i1e_p, lambda g, y, x: mul(g, bessel_i1e_slope(y, x)))
