# pyright: reportUnknownMemberType=false
"""Whether gradients are linear in what flows back, which a rule of the user's own need not be: clipping, for example.

Only then is the gradient of a sum the sum of the gradients of its parts.  Every rule of ckptgrad's is linear; of a
`jax.custom_vjp` function the backward is read, operation by operation.  What is not known to be linear counts as not linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.rule import registered
from ckptgrad.compat import CUSTOM_VJP, HI_CALL
from ckptgrad.graph.custom_calls import rule_call
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.work import inner_programs

# Linear in any one of these operands, where the others do not depend on what flows back.
_IN_ONE = {"mul": (0, 1), "dot_general": (0, 1), "conv_general_dilated": (0, 1), "div": (0,), "gather": (0,)}


def pulled_back_linearly(op: Operation) -> bool:
    """Whether what flows back through an operation is known to be linear in its cotangents."""
    return all(_is_linear_rule(name, params) for name, params in _calls(op.name, op.params))


def _calls(name: str, params: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Calls of functions with rules for cotangents: an operation itself, or those in the programs that it runs."""
    if name in (CUSTOM_VJP, HI_CALL):
        yield name, params
        return
    for program in inner_programs(params):
        for e in program.eqns:
            yield from _calls(e.primitive.name, e.params)


def _is_linear_rule(name: str, params: Mapping[str, Any]) -> bool:
    rule = rule_call(name, params)
    programs = None if rule is None else rule.programs()
    if programs is None:
        return False
    _, _, forwarded, backward, _ = programs
    graph = from_jaxpr(backward)
    return is_linear(graph, graph.inputs[len(forwarded) :])


def is_linear(graph: Graph, inputs: Iterable[Variable]) -> bool:
    """Whether the outputs of a graph are known to be linear in some of its inputs, in all of these together."""
    moving: set[Atom] = {*inputs}
    zero: set[Atom] = set()

    def is_zero(atom: Atom) -> bool:
        return atom in zero or (isinstance(atom, Constant) and np.ndim(atom.value) == 0 and bool(atom.value == 0))

    for op in graph.operations:
        rule = registered().get(op.name)
        is_linear_rule = rule is not None and rule.kind == "linear" and all(map(_is_inexact, op.outputs))
        among = [k for k, a in enumerate(op.inputs) if a in moving]
        if not among:
            zero.update(op.outputs if is_linear_rule and all(map(is_zero, op.inputs)) else ())
            continue
        in_all = is_linear_rule and all(a in moving or is_zero(a) for a in op.inputs if _is_inexact(a))
        if not in_all and (len(among) > 1 or among[0] not in _IN_ONE.get(op.name, ())):
            return False
        moving.update(op.outputs)
    return all(a in moving or is_zero(a) for a in graph.outputs)


def _is_inexact(atom: Atom) -> bool:
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
