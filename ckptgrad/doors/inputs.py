"""Which arguments may be differentiated by which door: checks of their dtypes, in the words of JAX."""

from __future__ import annotations

from typing import NoReturn

import jax
import jax.numpy as jnp
from jax import dtypes

from ckptgrad.doors.calling import Call
from ckptgrad.doors.leaves import dtype_of
from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.naming import title
from ckptgrad.graph.state import holds_nnx


def check_inputs(call: Call, allow_int: bool, holomorphic: bool, door: str = "grad") -> None:
    """Reject differentiated leaves that have no gradient, as `jax.grad` does.

    Raises:
        GradientTypeError: naming the argument and its dtype.
    """
    for k in call.selected:
        dtype = dtype_of(call.leaves[k])
        if isinstance(call.leaves[k], jax.Ref):
            raise GradientTypeError(
                f"{door} cannot differentiate with respect to a Ref, which the argument {call.names[k]} of "
                f"{title(call.original)} is; pass its value in, and return the new one"
            )
        if holomorphic and not dtypes.issubdtype(dtype, jnp.complexfloating):
            _refuse(call, k, f"{door} with holomorphic=True requires inputs with complex dtype", "leave holomorphic out")
        if not dtypes.issubdtype(dtype, jnp.inexact) and not allow_int:
            requirement = "requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact)"
            remedy = "pass allow_int=True for a float0 gradient, or leave the argument out of argnums"
            _refuse(call, k, f"{door} {requirement}", remedy)


def check_real_inputs(call: Call, allow_int: bool, holomorphic: bool, door: str) -> None:
    """Reject differentiated leaves that cannot be moved in one real direction, as `jax.jacfwd` does.

    Raises:
        GradientTypeError: naming the argument and its dtype.
    """
    if holomorphic:
        check_inputs(call, allow_int, holomorphic, door)
        return
    for k in call.selected:
        dtype = dtype_of(call.leaves[k])
        if not dtypes.issubdtype(dtype, jnp.floating) and (dtypes.issubdtype(dtype, jnp.inexact) or not allow_int):
            requirement = "requires real-valued inputs (input dtype that is a sub-dtype of np.floating)"
            remedy = "pass holomorphic=True for a holomorphic function, or use ckptgrad.jvp"
            _refuse(call, k, f"{door} {requirement}", remedy)


def _refuse(call: Call, k: int, requirement: str, remedy: str) -> NoReturn:
    name, where = call.names[k], title(call.original)
    if holds_nnx(call.primals):
        remedy = "for modules of Flax NNX use ckptgrad.nnx.value_and_grad or ckptgrad.nnx.grad"
    dtype = dtype_of(call.leaves[k])
    raise GradientTypeError(f"{requirement}, but got {dtype} for the argument {name} of {where}; {remedy}")
