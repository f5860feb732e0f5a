"""Derivative rules, one file per family of primitives; importing the package registers them all.

Example:
    >>> from ckptgrad.autodiff.rule import registered
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
    custom_batching,
    decompositions,
    discrete,
    fourier,
    hijax_calls,
    identity_like,
    indexing,
    products,
    reducers,
    reductions,
    refused,
    scattering,
    shapes,
    sharded,
    solvers,
    sorting,
    sparse,
    special,
    third_party,
    transcendental,
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
    "custom_batching",
    "decompositions",
    "discrete",
    "fourier",
    "hijax_calls",
    "identity_like",
    "indexing",
    "products",
    "reducers",
    "reductions",
    "refused",
    "scattering",
    "shapes",
    "sharded",
    "solvers",
    "sorting",
    "sparse",
    "special",
    "third_party",
    "transcendental",
    "windows",
]
