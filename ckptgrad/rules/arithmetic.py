"""Elementwise arithmetic: sums, products, powers, extrema, selection.

At kinks the conventions are JAX's: the maximum of two equal numbers sends half to each, |x| has
slope 1 at 0, and a clamp sends nothing at its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import bprop, cast, const, elementwise, linear, match, transcendental


@linear(p.add_p, cost="elementwise", axes=axes.elementwise)
def add(op: Application, g: Array) -> Sequence[Entry]:
    x, y = op.in_avals
    return lambda: match(g, x), lambda: match(g, y)


@linear(p.sub_p, cost="elementwise", axes=axes.elementwise)
def sub(op: Application, g: Array) -> Sequence[Entry]:
    x, y = op.in_avals
    return lambda: match(g, x), lambda: lax.neg(match(g, y))


@linear(p.add_jaxvals_p, cost="elementwise", axes=axes.elementwise)
def add_any(op: Application, g: Array) -> Sequence[Entry]:
    return g, g


@linear(p.neg_p, cost="elementwise", axes=axes.elementwise)
def neg(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.neg(g),)


def _times(x: Any, y: Any) -> Any:
    """x * y; a cotangent is wider than the other factor where `mul` had an `out_dtype`."""
    return lax.mul(x, y) if x.dtype == y.dtype else jnp.multiply(x, y)


elementwise(
    p.mul_p,
    lambda g, z, x, y: _times(g, y),
    lambda g, z, x, y: _times(x, g),
)
elementwise(
    p.div_p,
    lambda g, z, x, y: lax.div(g, y),
    lambda g, z, x, y: lax.neg(lax.mul(lax.mul(g, lax.integer_pow(y, -2)), x)),
)


def _quotient(x: Any, y: Any) -> Any:
    """x / y rounded towards zero."""
    q = lax.div(x, y)
    return lax.mul(lax.sign(q), lax.floor(lax.abs(q)))


elementwise(
    p.rem_p,
    lambda g, z, x, y: g,
    lambda g, z, x, y: lax.neg(lax.mul(g, _quotient(x, y))),
)
elementwise(p.nextafter_p, lambda g, z, x, y: g, None)

elementwise(p.square_p, lambda g, y, x: lax.mul(g, lax.mul(const(y, 2), x)))
elementwise(p.sqrt_p, lambda g, y, x: lax.mul(g, lax.div(const(y, 0.5), y)))
elementwise(p.rsqrt_p, lambda g, y, x: lax.mul(g, lax.mul(const(y, -0.5), lax.div(y, x))))
transcendental(p.cbrt_p, lambda g, y, x: lax.mul(g, lax.mul(const(y, 1 / 3), lax.integer_pow(y, -2))))


elementwise("one_minus_square", lambda g, y, x: lax.mul(g, lax.mul(const(y, -2), x)))


@bprop("polynomial", cost="elementwise", axes=axes.elementwise)
def polynomial(op: Application, g: Array) -> Sequence[Entry]:
    """Of x and its coefficients, that of the lowest power first; the slope is a polynomial again."""
    x, *coefficients = op.inputs

    def of_x() -> Array:
        slope = [lax.mul(const(c, k), c) for k, c in enumerate(coefficients[1:], 1)]
        value = slope[0] if len(slope) == 1 else op.op.primitive.bind(x, *slope, **op.params)
        return match(jnp.multiply(g, value), op.in_avals[0])

    def of_coefficient(k: int) -> Array:
        return match(jnp.multiply(g, lax.integer_pow(x, k)), op.in_avals[1 + k])

    return [of_x, *(partial(of_coefficient, k) for k in range(len(coefficients)))]


@bprop(p.integer_pow_p, cost="elementwise", axes=axes.elementwise)
def integer_pow(op: Application, g: Array) -> Sequence[Entry]:
    (x,), n = op.inputs, op.params["y"]
    if n == 0:
        return (None,)
    if n == 1:
        return (g,)
    return (lambda: lax.mul(g, lax.mul(const(x, n), x if n == 2 else lax.integer_pow(x, n - 1))),)


def _pow_base(g: Any, x: Any, y: Any) -> Any:
    """g * y * x^(y-1); for an integer exponent 0 the slope is 0, also where x is 0."""
    if not jnp.issubdtype(y.dtype, np.integer):
        return lax.mul(g, lax.mul(y, lax.pow(x, lax.sub(y, const(y, 1)))))
    y = lax.convert_element_type(y, x.dtype)
    flat = lax.eq(y, const(y, 0))
    exponent = _where(flat, const(y, 1), y)
    slope = lax.mul(exponent, lax.pow(x, lax.sub(exponent, const(y, 1))))
    return lax.mul(g, _where(flat, const(y, 0), slope))


def _pow_exponent(g: Any, z: Any, x: Any) -> Any:
    """g * log(x) * x^y, where log(0) is read as 0."""
    safe = _where(lax.eq(x, const(x, 0)), const(x, 1), x)
    return lax.mul(g, lax.mul(lax.log(safe), z))


def _where(condition: Any, yes: Any, no: Any) -> Any:
    """`lax.select` for operands that may be scalars."""
    shape = jnp.broadcast_shapes(condition.shape, yes.shape, no.shape)
    return lax.select(*(jnp.broadcast_to(a, shape) for a in (condition, yes, no)))


transcendental(
    p.pow_p,
    lambda g, z, x, y: _pow_base(g, x, y),
    lambda g, z, x, y: _pow_exponent(g, z, x),
)


@bprop(p.abs_p, cost="elementwise", axes=axes.elementwise)
def abs_(op: Application, g: Array) -> Sequence[Entry]:
    (x,) = op.inputs
    if not jnp.issubdtype(x.dtype, np.complexfloating):
        return (lambda: lax.select(lax.ge(x, const(x, 0)), g, lax.neg(g)),)

    def phase() -> Array:
        # |z| has the derivative conj(z)/|z| in JAX's convention, read as 0 at z = 0.
        size = _where(lax.eq(op.out, const(op.out, 0)), const(op.out, 1), op.out)
        zero = lax.full_like(g, 0)
        return lax.mul(lax.complex(g, zero), lax.div(lax.conj(x), lax.complex(size, zero)))

    return (phase,)


def _above(x: Any, y: Any) -> Any:
    """Where x > y; of complex numbers by their real parts first, as `lax.max` has them."""
    if not jnp.issubdtype(x.dtype, jnp.complexfloating):
        return lax.gt(x, y)
    (a, b), (c, d) = ((lax.real(z), lax.imag(z)) for z in (x, y))
    return lax.bitwise_or(lax.gt(a, c), lax.bitwise_and(lax.eq(a, c), lax.gt(b, d)))


def _share(g: Any, x: Any, y: Any, wins: Any) -> Any:
    """g where x wins over y, half of it where they are equal, as with JAX; nothing where one is nan.

    By comparing x with y, never with the extremum: where they are made again, by a plan or by a compiler that fuses what
    makes them into several loops, they may be rounded otherwise, and the one that was chosen would equal it nowhere.
    """
    tied = lax.mul(lax.convert_element_type(lax.eq(x, y), g.dtype), const(g, 0.5))
    return lax.mul(g, lax.add(lax.convert_element_type(wins, g.dtype), tied))


def larger(g: Any, z: Any, x: Any, y: Any) -> Any:
    """Of the cotangent g of z, the larger of x and y, what flows to x."""
    return _share(g, x, y, _above(x, y))


def smaller(g: Any, z: Any, x: Any, y: Any) -> Any:
    """Of the cotangent g of z, the smaller of x and y, what flows to x."""
    return _share(g, x, y, _above(y, x))


elementwise(p.max_p, larger, lambda g, z, x, y: larger(g, z, y, x))
elementwise(p.min_p, smaller, lambda g, z, x, y: smaller(g, z, y, x))


def _mask(condition: Any, g: Any) -> Any:
    """g where the condition holds (a scalar condition holds for all of g)."""
    return lax.select(condition, g, lax.full_like(g, 0))


elementwise(
    p.clamp_p,
    lambda g, y, low, x, high: _mask(lax.bitwise_and(lax.gt(low, x), lax.lt(low, high)), g),
    lambda g, y, low, x, high: _mask(lax.bitwise_and(lax.gt(x, low), lax.lt(x, high)), g),
    lambda g, y, low, x, high: _mask(lax.lt(high, x), g),
)


@linear(p.select_n_p, cost="elementwise", axes=axes.elementwise)
def select_n(op: Application, g: Array) -> Sequence[Entry]:
    which, *cases = op.inputs
    zero = lax.full_like(g, 0)

    def entry(i: int) -> Array:
        if which.dtype == np.bool_:
            return lax.select(which, g, zero) if i else lax.select(which, zero, g)
        return lax.select(lax.eq(which, const(which, i)), g, zero)

    return None, *(lambda i=i: entry(i) for i in range(len(cases)))


@linear(p.convert_element_type_p, cost="view", axes=axes.elementwise)
def convert_element_type(op: Application, g: Array) -> Sequence[Entry]:
    (x,) = op.in_avals
    return (lambda: cast(g, x.dtype),)
