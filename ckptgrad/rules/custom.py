"""`jax.custom_jvp`, `jax.custom_vjp`, `linear_call`: the user's rule is honoured.

A custom_jvp rule maps tangents linearly; its transpose follows by running this engine over the rule
itself, from the output tangents back to the input tangents.  A custom_vjp rule is called as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax
from jax.custom_derivatives import SymbolicZero

from ckptgrad import compat
from ckptgrad.autodiff.cotangent import Entry, accumulate
from ckptgrad.autodiff.reverse import backpropagate, forward, is_differentiable
from ckptgrad.autodiff.rule import Application, WithPull, WithTangents
from ckptgrad.autodiff.transpose import pull_from
from ckptgrad.errors import ForwardModeError, NoDerivativeError
from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import filled
from ckptgrad.rules import custom_axes
from ckptgrad.rules.checkify_errors import Errors, errors_around
from ckptgrad.rules.decorators import bprop, instantiate, pullback
from ckptgrad.rules.subgraphs import some


def tangent_zeros(aval: Any) -> Any:
    """A zero tangent: float0 for integers and booleans."""
    if is_differentiable(aval):
        return filled(aval)
    return np.zeros(aval.shape, dtypes.float0)


def _jvp_rule(op: Application, call: compat.JvpRule) -> tuple[Graph, list[int], Sequence[bool]]:
    """The user's rule as a graph of primals and tangents.

    Returns:
        The graph, the inputs of the operation whose tangents it takes (all, unless the rule knows
        symbolic zeros), and which of its output tangents are zero.
    """
    absent = [call.symbolic_zeros and not n for n in op.needs[call.num_consts :]]
    rule, zero_outs = call.rule(absent)
    with_tangents = [i for i, zero in enumerate(absent, call.num_consts) if not zero]
    results = zip(reversed(rule.out_avals[: len(zero_outs)]), reversed(op.out_avals), strict=False)
    if any(ours.shape != theirs.shape for ours, theirs in results):
        raise NoDerivativeError(op.op.name, "under vmap its rule gives one result for each entry, the function one for all")
    return from_jaxpr(rule), with_tangents, zero_outs


def push_custom_jvp(op: Application, *tangents: Any) -> WithTangents:
    """Forward mode: the user's rule itself."""
    return pushed_by_rule(op, compat.custom_jvp_call(op.params), *tangents)


def pushed_by_rule(op: Application, call: compat.JvpRule, *tangents: Any) -> WithTangents:
    """Forward mode by a rule for tangents."""
    consts = call.num_consts
    rule, with_tangents, zero_outs = _jvp_rule(op, call)
    present = [tangent_zeros(op.in_avals[i]) if tangents[i] is None else tangents[i] for i in with_tangents]
    results = [_array(x, a.aval) for x, a in zip(rule(*op.inputs[consts:], *present), rule.outputs, strict=True)]
    rest = iter(results[len(zero_outs) :])
    pushed = [None if zero else next(rest) for zero in zero_outs]
    errors = _errors_of_jvp(op, call, zero_outs)
    values = [*errors.values(op), *results[errors.taken : len(zero_outs)]]
    moves = zip([*errors.pushed(tangents[consts:]), *pushed[errors.taken :]], op.out_avals, strict=True)
    return values, [t if is_differentiable(a) else None for t, a in moves]


def _errors_of_jvp(op: Application, call: compat.JvpRule, zero_outs: Sequence[bool]) -> Errors:
    taken = compat.errors_taken(call.rule_thunk)
    return errors_around(op, taken, len(zero_outs) - taken)


@pullback("custom_jvp_call", push=push_custom_jvp, cost="elementwise", axes=custom_axes.custom_jvp)
def custom_jvp_call(op: Application) -> WithPull:
    return pulled_by_rule(op, compat.custom_jvp_call(op.params))


def pulled_by_rule(op: Application, call: compat.JvpRule) -> WithPull:
    """Reverse mode by a rule for tangents: its transpose."""
    if op.linear:
        return _inlined(op, call)
    consts = call.num_consts
    primals = op.inputs[consts:]
    rule, with_tangents, zero_outs = _jvp_rule(op, call)
    moving = rule.inputs[len(primals) :]
    tape = forward(rule, [*primals, *(tangent_zeros(op.in_avals[i]) for i in with_tangents)], moving, linear=True)
    errors = _errors_of_jvp(op, call, zero_outs)
    values = [_array(read(tape.env, a), a.aval) for a in rule.outputs[errors.taken : len(zero_outs)]]
    outputs = [*errors.values(op), *values]
    tangents = iter(rule.outputs[len(zero_outs) :])
    tangent_outs = [None if zero else next(tangents) for zero in zero_outs]

    def pull(*cotangents: Any) -> list[Any]:
        seeds: dict[Variable, Any] = {}
        for out, ct in zip(tangent_outs[errors.taken :], cotangents[errors.returned :], strict=True):
            if ct is not None and isinstance(out, Variable) and is_differentiable(out.aval):
                accumulate(seeds, out, ct)
        entries: list[Any] = [None] * len(op.inputs)
        for i, ct in zip(with_tangents, backpropagate(tape, seeds, moving), strict=True):
            entries[i] = ct
        entries[consts : consts + errors.taken] = errors.pulled(cotangents)
        return entries

    return outputs, pull


def _inlined(op: Application, call: compat.JvpRule) -> WithPull:
    """Through the function itself, which is linear in tangents: its rule may apply it to tangents, which would never end."""
    graph = from_jaxpr(call.primal)
    wrt = [v for v, n in zip(graph.inputs, op.needs, strict=True) if n]
    tape = forward(graph, op.inputs, wrt, linear=True)

    def pull(*cotangents: Any) -> list[Any]:
        return some(op.needs, pull_from(tape, cotangents, wrt))

    return [_array(read(tape.env, a), a.aval) for a in graph.outputs], pull


def _array(value: Any, aval: Any) -> Any:
    """A literal output is a Python number."""
    return value if hasattr(value, "dtype") else jnp.asarray(value, aval.dtype)


def push_custom_vjp(op: Application, *tangents: Any) -> WithTangents:
    """The values that the rule computes, without tangents."""
    refuse_tangents(op)
    return custom_vjp_call(op)[0], [None] * len(op.op.outputs)


def refuse_tangents(op: Application) -> None:
    """Refuse, as JAX does, unless no tangent is used: a rule for cotangents need not be linear, so it has no transpose."""
    if any(op.used_outputs):
        raise ForwardModeError(op.op.name, op.op.source)


def refuse_closed_over(op: Application, count: int) -> None:
    """Refuse, as JAX does: a rule says nothing about the first operands, the values that its function closes over."""
    if any(op.needs[:count]):
        reason = "a custom_vjp function closes over a value that is differentiated; make it an argument, of its rule too"
        raise NoDerivativeError(op.op.name, reason, op.op.source)


@pullback("custom_vjp_call", push=push_custom_vjp, cost="heavy", axes=custom_axes.custom_vjp)
def custom_vjp_call(op: Application) -> WithPull:
    call = compat.custom_vjp_call(op.params)
    refuse_closed_over(op, call.num_consts)
    kept = from_jaxpr(call.forward(op.needs[call.num_consts :]))(*op.inputs[call.num_consts :])
    forwarded = call.forwarded()
    computed = sum(f is None for f in forwarded)
    fresh = iter(kept[:computed])
    errors = errors_around(op, compat.errors_taken(call.backward_thunk), len(kept) - computed)
    residuals = [next(fresh) if f is None else op.inputs[errors.taken + f] for f in forwarded]

    in_avals = op.in_avals[call.num_consts :]

    def pull(*cotangents: Any) -> list[Any]:
        results = zip(cotangents[errors.returned :], op.out_avals[errors.returned :], strict=True)
        seeds = [_seed(ct, aval, call.symbolic_zeros) for ct, aval in results]
        gradients = [fitting(op, ct, aval) for ct, aval in zip(call.backward(residuals, seeds), in_avals, strict=True)]
        return [None] * call.num_consts + errors.pulled(cotangents) + gradients[errors.taken :]

    return [*errors.values(op), *kept[computed:]], pull


def fitting(op: Application, ct: Any, aval: Any) -> Any:
    """A cotangent that a user's rule returns, cast to the dtype of its value, on which the rules that it reaches rely."""
    if ct is None or not is_differentiable(aval):
        return ct
    ct = jnp.asarray(ct)
    if dtypes.issubdtype(ct.dtype, jnp.complexfloating) and not dtypes.issubdtype(aval.dtype, jnp.complexfloating):
        reason = f"its rule returns a {ct.dtype} cotangent for an argument that is {aval.dtype}"
        raise NoDerivativeError(op.op.name, reason, op.op.source)
    return lax.convert_element_type(ct, aval.dtype)


def _seed(ct: Any, aval: Any, symbolic_zeros: bool) -> Any:
    """The cotangent that a rule receives: in place of None zeros, or the sentinel that a rule may ask for."""
    if ct is None and symbolic_zeros:
        return SymbolicZero(aval.to_tangent_aval())
    return instantiate(ct, aval) if is_differentiable(aval) else tangent_zeros(aval)


@bprop("linear_call", cost="heavy")
def linear_call(op: Application, *cotangents: Any) -> Sequence[Entry]:
    """The user's transpose of a function that is linear in its last arguments."""
    fixed = op.params["num_callee_consts"] + op.params["num_res"]
    if any(op.needs[:fixed]):
        raise NoDerivativeError(op.op.name, "it is differentiated in an argument in which it is not linear", op.op.source)
    program, consts = op.params["transpose_thunk"]()
    seeds = [instantiate(ct, aval) for ct, aval in zip(cotangents, op.out_avals, strict=True)]
    count = op.params["num_res"]
    gradients = op.op.primitive.bind(
        *consts,
        *op.inputs[fixed - count : fixed],
        *seeds,
        callee=program,
        transpose_thunk=lambda: (op.params["callee"], op.inputs[: fixed - count]),
        num_callee_consts=len(consts),
        num_res=count,
    )
    return [None] * fixed + list(gradients)
