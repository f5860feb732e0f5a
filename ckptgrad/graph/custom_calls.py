# pyright: reportUnknownMemberType=false
"""Calls of `jax.custom_jvp` and `jax.custom_vjp` functions: the programs of their rules, and which rule it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.compat import (
    CUSTOM_JVP,
    CUSTOM_VJP,
    CustomJvpCall,
    CustomVjpCall,
    anchor_of,
    custom_jvp_call,
    custom_vjp_call,
    rule_identity,
)
from ckptgrad.graph.value_types import struct


@dataclass(frozen=True, eq=False)
class RuleCall:
    """A call of a function with a rule of its own.

    Attributes:
        parameters: the parameters of the operation that make up the rule.
        anchor: an object that belongs to this call alone.
        in_avals: the types of the function's arguments.
        identity: the user's functions and static arguments of which the rule is made, or None where that is not known.
        programs: all that the rule computes, or None where it cannot be known without its arguments.
    """

    parameters: frozenset[str]
    anchor: Any
    in_avals: Sequence[Any]
    identity: Callable[[], list[Any] | None]
    programs: Callable[[], Any]


def rule_call(name: str, params: Mapping[str, Any]) -> RuleCall | None:
    """The rule that an operation calls, if it calls one."""
    if name == CUSTOM_JVP:
        jvp = custom_jvp_call(params)
        return _rule_call(jvp, partial(_jvp_programs, jvp))
    if name == CUSTOM_VJP:
        vjp = custom_vjp_call(params)
        return _rule_call(vjp, partial(_vjp_programs, vjp))
    return None


def _rule_call(call: CustomJvpCall | CustomVjpCall, programs: Callable[[Sequence[Any]], Any]) -> RuleCall:
    in_avals = call.primal.in_avals[call.num_consts :]
    return RuleCall(
        call.PARAMETERS,
        anchor_of(call),
        in_avals,
        lambda: rule_identity(call.wrapped),
        # Which symbolic zeros a rule will be shown, and what it does then, is not known in advance.
        lambda: None if call.symbolic_zeros else _or_none(programs, in_avals),
    )


def _or_none(programs: Callable[[Sequence[Any]], Any], in_avals: Sequence[Any]) -> Any:
    try:
        return programs(in_avals)
    except Exception:
        # The user's rule: it may refuse these types, and need not be called at all.
        return None


def _jvp_programs(call: CustomJvpCall, in_avals: Sequence[Any]) -> Any:
    return call.rule([False] * len(in_avals))


def _vjp_programs(call: CustomVjpCall, in_avals: Sequence[Any]) -> Any:
    """The forward, which of its residuals are arguments, and the backward with the cotangents that it leaves out."""
    forward = call.forward([True] * len(in_avals))
    _, residuals, forwarded = call.trees()
    fresh = iter(forward.out_avals)
    structs = [struct(next(fresh) if f is None else call.primal.in_avals[f]) for f in forwarded]
    out_avals = call.primal.out_avals
    present: list[bool] = []

    def backward(residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        rest = iter(cotangents)
        seeds = [next(rest) if _is_inexact(a) else np.zeros(a.shape, dtypes.float0) for a in out_avals]
        gradients = call.backward(residuals, seeds)
        present[:] = [ct is not None for ct in gradients]
        return [ct for ct, there in zip(gradients, present, strict=True) if there]

    program = jax.make_jaxpr(backward)(structs, [struct(a) for a in out_avals if _is_inexact(a)])
    return forward, residuals, tuple(forwarded), program, tuple(present)


def _is_inexact(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
