"""Custom rules that close over values of the function in which they stand.

A rule runs after its function was traced, when the tracers of that are gone.  JAX runs it while they are there, inside the
caller's transformation; used here, they would make an error of JAX's that names neither rule nor remedy.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from ckptgrad.chain.program import Program
from ckptgrad.compat import trace_of
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.custom_calls import rule_call
from ckptgrad.rules.subgraphs import calls_custom_rule


def trace_of_any(values: Iterable[Any]) -> weakref.ref[Any] | None:
    """The trace to which values belong, not kept alive; None where none of them is traced."""
    found = next((trace for x in values if (trace := trace_of(x)) is not None), None)
    return None if found is None else weakref.ref(found)


def check_nothing_is_captured(program: Program, traced: weakref.ref[Any] | None) -> None:
    """Refuse rules that close over values of a trace that has ended.

    Args:
        program: of the function that was traced.
        traced: the trace. Where nothing closes over its values it is gone.

    Raises:
        NoDerivativeError: names the rule's line.
    """
    trace = None if traced is None else traced()
    if trace is None:
        return
    for kind in program.kinds:
        if calls_custom_rule(kind.graph) and any(trace_of(c) is trace for c in kind.joint.constants.values()):
            op = next((op for op in kind.graph.operations if rule_call(op.name, op.params)), kind.graph.operations[0])
            raise NoDerivativeError(
                op.name,
                "its rule closes over a value that the function computes around it, which is gone when the rule runs; make "
                "it an argument of the function with the rule, or compute it with NumPy",
                op.source,
            )
