"""The leaves of arguments: what is an array or a number, of which dtype, and whether it has a gradient."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.static_arguments import is_traced

NUMBERS = (bool, int, float, complex, np.generic)


def dtype_of(leaf: Any, describe: Callable[[], str] = lambda: "it") -> Any:
    """The dtype of an array or a number.

    Raises:
        GradientTypeError: the leaf is neither; `describe` says which one it is.
    """
    if not (is_traced(leaf) or isinstance(leaf, NUMBERS)):
        try:
            return jax.typeof(leaf).dtype
        except (TypeError, AttributeError):
            raise GradientTypeError(
                f"Argument {leaf!r} of type {type(leaf)} is not a valid JAX type: {describe()} is differentiated, so it "
                f"must be an array or a number; leave the argument out of argnums, or close over it{_for_equinox()}"
            ) from None
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def _for_equinox() -> str:
    """What differentiates Equinox modules, where these may be meant."""
    return (
        "; of Equinox modules ckptgrad.eqx.filter_value_and_grad differentiates the arrays"
        if sys.modules.get("equinox")
        else ""
    )


def has_gradient(leaf: Any) -> bool:
    """Whether a leaf is a float or complex array."""
    return dtypes.issubdtype(dtype_of(leaf), jnp.inexact)


def float0_zeros(leaf: Any) -> np.ndarray:
    """The gradient of an integer, boolean or key leaf."""
    return np.zeros(np.shape(leaf), dtypes.float0)
