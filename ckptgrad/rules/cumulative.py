"""Cumulative sums, products, extrema and log-sum-exps.

A cumulative sum is linear.  The others go back along the parallel prefix scan (combine neighbours,
scan the half-length sequence, fill in the rest): only the derivatives of the combining function are
needed, and no division.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes import families as axes
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.arithmetic import larger, smaller
from ckptgrad.rules.decorators import bprop, const, linear

Combine = Callable[[Any, Any], Any]
Partial = Callable[[Any, Any, Any, Any], Any]


_SWEPT = axes.blocked(lambda op: (op.params["axis"],))


@linear(p.cumsum_p, cost="heavy", axes=_SWEPT)
def cumsum(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.cumsum(g, op.params["axis"], not op.params["reverse"]),)


def cumulative(primitive: Any, combine: Combine, partial: Partial) -> None:
    """Register a scan of a symmetric `combine`, where `partial(g, z, a, b)` is g * dz/da."""

    @bprop(primitive, cost="heavy", axes=_SWEPT)
    def rule(op: Application, g: Array) -> Sequence[Entry]:
        (x,), axis = op.inputs, op.params["axis"]

        def entry() -> Array:
            flip = (lambda a: lax.rev(a, (axis,))) if op.params["reverse"] else (lambda a: a)
            _, pull = scan(combine, partial, flip(x), axis)
            return flip(pull(flip(g)))

        return (entry,)


def scan(combine: Combine, partial: Partial, x: Any, axis: int) -> tuple[Any, Callable[[Any], Any]]:
    """The prefix scan of x and its pullback; the recursion is log2(n) deep."""
    n = x.shape[axis]
    if n < 2:
        return x, lambda g: g

    def cut(a: Array, start: int, stop: int | None = None, stride: int = 1) -> Array:
        return lax.slice_in_dim(a, start, stop, stride, axis)

    left, right = cut(x, 0, n - 1, 2), cut(x, 1, None, 2)
    pairs = combine(left, right)
    odd, pull_odd = scan(combine, partial, pairs, axis)
    before, new = cut(odd, 0, (n - 1) // 2), cut(x, 2, None, 2)
    filled = combine(before, new)
    even = lax.concatenate([cut(x, 0, 1), filled], axis)

    def pull(g: Array) -> Array:
        g_even, g_odd = cut(g, 0, None, 2), cut(g, 1, None, 2)
        g_filled = cut(g_even, 1)
        g_before = partial(g_filled, filled, before, new)
        g_new = partial(g_filled, filled, new, before)
        g_pairs = pull_odd(lax.add(g_odd, resized(g_before, odd.shape[axis], axis)))
        g_left = partial(g_pairs, pairs, left, right)
        g_right = partial(g_pairs, pairs, right, left)
        g_evens = lax.concatenate([cut(g_even, 0, 1), g_new], axis)
        g_evens = lax.add(g_evens, resized(g_left, even.shape[axis], axis))
        return interleaved(g_evens, g_right, axis)

    return interleaved(even, odd, axis), pull


def resized(x: Any, n: int, axis: int) -> Any:
    """Zeros appended up to size n."""
    missing = n - x.shape[axis]
    config = [(0, missing if i == axis else 0, 0) for i in range(x.ndim)]
    return lax.pad(x, const(x, 0), config) if missing else x


def interleaved(even: Any, odd: Any, axis: int) -> Any:
    """even[0], odd[0], even[1], ..."""
    last = 1 if even.shape[axis] == odd.shape[axis] else 0

    def spaced(x: Array, low: int, high: int) -> Array:
        config = [(low, high, 1) if i == axis else (0, 0, 0) for i in range(x.ndim)]
        return lax.pad(x, const(x, 0), config)

    return lax.add(spaced(even, 0, last), spaced(odd, 1, 1 - last))


def finite(x: Any) -> Any:
    """x with +inf read as 0, as JAX does it."""
    return lax.select(lax.eq(x, const(x, jnp.inf)), lax.full_like(x, 0), x)


def weight(g: Any, z: Any, a: Any, b: Any) -> Any:
    """g * exp(a - z), the derivative of z = log(exp a + exp b)."""
    return lax.mul(g, lax.exp(lax.sub(finite(a), finite(z))))


cumulative(p.cumprod_p, lax.mul, lambda g, z, a, b: lax.mul(g, b))
cumulative(p.cummax_p, lax.max, larger)
cumulative(p.cummin_p, lax.min, smaller)
cumulative(p.cumlogsumexp_p, jnp.logaddexp, weight)
