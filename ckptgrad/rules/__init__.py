"""Bprop rules, one file a family of primitives; importing the package registers them all."""

from ckptgrad.rules import (
    arithmetic,
    complexes,
    convolution,
    cumulative,
    discrete,
    fourier,
    indexing,
    passing,
    products,
    reductions,
    scattering,
    shapes,
    sorting,
    special,
    transcendental,
    windows,
)

__all__ = [
    "arithmetic",
    "complexes",
    "convolution",
    "cumulative",
    "discrete",
    "fourier",
    "indexing",
    "passing",
    "products",
    "reductions",
    "scattering",
    "shapes",
    "sorting",
    "special",
    "transcendental",
    "windows",
]
