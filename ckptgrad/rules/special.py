"""Error, gamma, beta and Bessel functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p
from jax.numpy import finfo

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import bprop, const, transcendental

mul, div, add, sub, neg, exp, log = lax.mul, lax.div, lax.add, lax.sub, lax.neg, lax.exp, lax.log

# d erf(x)/dx = 2/sqrt(pi) exp(-x^2)
ERF_SLOPE = 2 / np.sqrt(np.pi)

transcendental(p.erf_p, lambda g, y, x: mul(mul(const(y, ERF_SLOPE), g), exp(neg(lax.square(x)))))
transcendental(p.erfc_p, lambda g, y, x: mul(mul(const(y, -ERF_SLOPE), g), exp(neg(lax.square(x)))))
transcendental(p.erf_inv_p, lambda g, y, x: mul(mul(const(y, np.sqrt(np.pi) / 2), g), exp(lax.square(y))))

transcendental(p.lgamma_p, lambda g, y, x: mul(g, lax.digamma(x)))
transcendental(p.digamma_p, lambda g, y, x: mul(g, lax.polygamma(const(y, 1), x)))
transcendental(p.polygamma_p, None, lambda g, y, m, x: mul(g, lax.polygamma(add(m, const(y, 1)), x)))


def gamma_density(a: Array, x: Array) -> Array:
    """The derivative of igamma(a, x) in x: x^(a-1) exp(-x) / gamma(a)."""
    return exp(sub(add(neg(x), mul(sub(a, const(a, 1)), log(x))), lax.lgamma(a)))


def beta_density(a: Array, b: Array, x: Array) -> Array:
    """The derivative of betainc(a, b, x) in x: x^(a-1) (1-x)^(b-1) / beta(a, b)."""
    log_beta = sub(add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(add(a, b)))
    powers = add(mul(sub(b, const(b, 1)), lax.log1p(neg(x))), mul(sub(a, const(a, 1)), log(x)))
    return exp(sub(powers, log_beta))


transcendental(
    p.igamma_p,
    lambda g, y, a, x: mul(g, lax.igamma_grad_a(a, x)),
    lambda g, y, a, x: mul(g, gamma_density(a, x)),
)
transcendental(
    p.igammac_p,
    lambda g, y, a, x: neg(mul(g, lax.igamma_grad_a(a, x))),
    lambda g, y, a, x: neg(mul(g, gamma_density(a, x))),
)


def without(primitive: Primitive, argument: str) -> Callable:
    """A partial derivative that is refused, with respect to one argument."""

    def partial(g: Array, *_: Array) -> Array:
        raise NoDerivativeError(primitive.name, f"its derivative with respect to {argument} is not implemented, as in JAX")

    return partial


transcendental(
    p.regularized_incomplete_beta_p,
    without(p.regularized_incomplete_beta_p, "a"),
    without(p.regularized_incomplete_beta_p, "b"),
    lambda g, y, a, b, x: mul(beta_density(a, b, x), g),
)


def bessel_i1e_slope(y: Array, x: Array) -> Array:
    """i0e(x) - y (sign(x) + 1/x), which is 1/2 at 0."""
    eps = const(x, finfo(x.dtype).eps)
    regular = lax.gt(lax.abs(x), eps)
    safe = lax.select(regular, x, lax.full_like(x, eps))
    slope = sub(lax.bessel_i0e(safe), mul(y, add(lax.sign(safe), lax.reciprocal(safe))))
    return lax.select(regular, slope, lax.full_like(x, 0.5))


transcendental(p.bessel_i0e_p, lambda g, y, x: mul(g, sub(lax.bessel_i1e(x), mul(lax.sign(x), y))))
transcendental(p.bessel_i1e_p, lambda g, y, x: mul(g, bessel_i1e_slope(y, x)))

transcendental(p.zeta_p, without(p.zeta_p, "x"), lambda g, z, x, q: neg(mul(g, mul(x, lax.zeta(add(x, const(x, 1)), q)))))


@bprop(p.random_gamma_p, cost="heavy")
def random_gamma(op: Application, g: Array) -> Sequence[Entry]:
    """Towards the shape parameter, by implicit differentiation of the distribution function."""

    def entry() -> Array:
        shape, sample = op.inputs[1], op.out
        if op.params["log_space"]:
            tiny = np.array(finfo(sample.dtype).tiny, sample.dtype)
            sample = jnp.where(exp(sample) == 0, tiny, exp(sample))
        slope = jax.lax.map(
            lambda pair: lax.random_gamma_grad(*pair),  # pyright: ignore[reportCallIssue]
            (shape.ravel(), sample.ravel()),
        )
        slope = slope.reshape(shape.shape)
        return mul(g, slope / sample if op.params["log_space"] else slope)

    return None, entry
