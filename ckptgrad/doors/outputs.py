"""What a function may return to which door: checks in the words of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import dtypes

from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.naming import title


def output_and_aux(out: Any, fun: Callable) -> tuple[Any, Any]:
    """The two parts of what a function returns that is called with `has_aux=True`.

    Raises:
        GradientTypeError: it is not a pair.
    """
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        got = f"{len(out)} of them" if isinstance(out, (tuple, list)) else f"a {type(out).__name__}"
        raise GradientTypeError(
            f"expected function with aux output to return a two-element tuple (output, aux), as has_aux=True says, but "
            f"{title(fun)} returned {got}"
        )
    return out[0], out[1]


def check_are_arrays(out: Any, fun: Callable) -> None:
    """Reject leaves of an output that are neither arrays nor numbers.

    Raises:
        GradientTypeError: naming the leaf.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]:
        try:
            jax.typeof(leaf)
        except TypeError:
            raise GradientTypeError(
                f"{leaf!r} of type {type(leaf)} is not a valid JAX type: result{jax.tree_util.keystr(path)} of "
                f"{title(fun)} must be an array or a number; return others as aux, with has_aux=True"
            ) from None


def check_scalar(out: Any, fun: Callable, holomorphic: bool) -> None:
    """Reject a loss that is not a real scalar (a complex one for a holomorphic function), as `jax.grad` does.

    Raises:
        GradientTypeError: naming its shape or its dtype.
    """
    problem = "Gradient only defined for scalar-output functions. Output"
    remedy = (
        "To get a gradient, sum it (output.sum()); pass has_aux=True for further outputs; for all derivatives use "
        "ckptgrad.jacobian (as jax.jacobian) or ckptgrad.vjp"
    )
    try:
        aval = jax.typeof(out)
    except TypeError:
        raise GradientTypeError(f"{problem} was a {type(out).__name__}, in {title(fun)}. {remedy}") from None
    if aval.shape != ():
        if aval.size == 1:
            remedy += f"; or take the scalar out: output.reshape(()){' or output[0]' if len(aval.shape) == 1 else ''}"
        raise GradientTypeError(f"{problem} had shape: {aval.shape}, in {title(fun)}. {remedy}")
    if not _has_dtype_for(aval.dtype, holomorphic):
        remedy = "or leave holomorphic out" if holomorphic else "or, if it is holomorphic, pass holomorphic=True"
        problem = _wrong_dtype(aval.dtype, holomorphic)
        raise GradientTypeError(f"grad {problem} from {title(fun)}; use ckptgrad.vjp, {remedy}")


def check_real_outputs(out: Any, fun: Callable, holomorphic: bool, door: str) -> None:
    """Reject outputs that are not real (not complex for a holomorphic function), as `jax.jacrev` does.

    Raises:
        GradientTypeError: naming the leaf and its dtype.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]:
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        if not _has_dtype_for(dtype, holomorphic):
            where = f"result{jax.tree_util.keystr(path)} of {title(fun)}"
            raise GradientTypeError(f"{door} {_wrong_dtype(dtype, holomorphic)} for {where}; use ckptgrad.vjp")


def _has_dtype_for(dtype: Any, holomorphic: bool) -> bool:
    return dtypes.issubdtype(dtype, jnp.complexfloating if holomorphic else jnp.floating)


def _wrong_dtype(dtype: Any, holomorphic: bool) -> str:
    """What is wrong with the dtype of an output, after the name of a door."""
    if holomorphic:
        return f"with holomorphic=True requires outputs with complex dtype, but got {dtype}"
    return f"requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got {dtype}"
