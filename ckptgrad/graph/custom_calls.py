"""Calls of `jax.custom_jvp` and `jax.custom_vjp` functions: the programs of their rules, and which rule it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.compat import custom_jvp_call, custom_vjp_call
from ckptgrad.graph.rule_identity import rule_identity
from ckptgrad.graph.trace import struct

CUSTOM_JVP, CUSTOM_VJP = "custom_jvp_call", "custom_vjp_call"


@dataclass(frozen=True, eq=False)
class RuleCall:
    """A call of a function with a rule of its own.

    Attributes:
        parameters: the parameters of the operation that make up the rule.
        anchor: an object that belongs to this call alone.
        in_avals: the types of the function's arguments.
        identity: the user's functions and static arguments that the rule is made of, or None where that is not known.
        programs: all that the rule computes, or None where it cannot be known without its arguments.
    """

    parameters: frozenset[str]
    anchor: Any
    in_avals: Sequence[Any]
    identity: Callable[[], Any]
    programs: Callable[[], Any]


def rule_call(name: str, params: Mapping[str, Any]) -> RuleCall | None:
    """The rule that an operation calls, if it calls one."""
    if name not in (CUSTOM_JVP, CUSTOM_VJP):
        return None
    in_avals = params["call_jaxpr"].in_avals[params["num_consts"] :]
    if name == CUSTOM_JVP:
        rule = params["jvp_jaxpr_fun"]
        names, wrapped, programs = ("jvp_jaxpr_fun",), (rule,), _jvp_programs
    else:
        rule = params["fwd_jaxpr_thunk"]
        names, wrapped, programs = ("fwd_jaxpr_thunk", "bwd", "out_trees"), (rule, params["bwd"]), _vjp_programs
    anchor = getattr(rule, "f", rule)
    return RuleCall(
        frozenset(names),
        anchor,
        in_avals,
        lambda: rule_identity(wrapped),
        # Which symbolic zeros a rule will be shown, and what it does then, is not known before.
        lambda: None if params["symbolic_zeros"] else _or_none(programs, params, in_avals),
    )


def _or_none(programs: Callable[..., Any], params: Mapping[str, Any], in_avals: Sequence[Any]) -> Any:
    try:
        return programs(params, in_avals)
    except Exception:
        # The user's rule: it may refuse these types, and need not be called at all.
        return None


def _jvp_programs(params: Mapping[str, Any], in_avals: Sequence[Any]) -> Any:
    return custom_jvp_call(params).rule([False] * len(in_avals))


def _vjp_programs(params: Mapping[str, Any], in_avals: Sequence[Any]) -> Any:
    """The forward, which of its residuals are arguments, and the backward with the cotangents that it leaves out."""
    call = custom_vjp_call(params)
    forward = call.forward([True] * len(in_avals))
    _, residuals, forwarded = call.trees()
    fresh = iter(forward.out_avals)
    given = [struct(next(fresh) if f is None else call.primal.in_avals[f]) for f in forwarded]
    out_avals = params["call_jaxpr"].out_avals
    present: list[bool] = []

    def backward(residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        rest = iter(cotangents)
        seeds = [next(rest) if _is_inexact(a) else np.zeros(a.shape, dtypes.float0) for a in out_avals]
        found = call.backward(residuals, seeds)
        present[:] = [ct is not None for ct in found]
        return [ct for ct, there in zip(found, present, strict=True) if there]

    program = jax.make_jaxpr(backward)(given, [struct(a) for a in out_avals if _is_inexact(a)])
    return forward, residuals, tuple(forwarded), program, tuple(present)


def _is_inexact(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and dtypes.issubdtype(dtype, jnp.inexact)
