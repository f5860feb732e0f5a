"""Bprop rules, one file a family of primitives; importing the package registers them all.

Example:
    >>> from ckptgrad.graph.registry import registered
    >>> registered()["sin"].kind, registered()["lt"].kind
    ('elementwise', 'zero')
"""

from ckptgrad.rules import (
    arithmetic,
    branches,
    collectives,
    complexes,
    convolution,
    cumulative,
    custom,
    decompositions,
    discrete,
    fourier,
    indexing,
    passing,
    products,
    reducers,
    reductions,
    refused,
    scans,
    scattering,
    shapes,
    sharded,
    solvers,
    sorting,
    sparse,
    special,
    third_party,
    transcendental,
    whiles,
    windows,
)

__all__ = [
    "arithmetic",
    "branches",
    "collectives",
    "complexes",
    "convolution",
    "cumulative",
    "custom",
    "decompositions",
    "discrete",
    "fourier",
    "indexing",
    "passing",
    "products",
    "reducers",
    "reductions",
    "refused",
    "scans",
    "scattering",
    "shapes",
    "sharded",
    "solvers",
    "sorting",
    "sparse",
    "special",
    "third_party",
    "transcendental",
    "whiles",
    "windows",
]
