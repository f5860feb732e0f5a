"""How much arithmetic an operation does.

A rule may state how the work of its primitive is counted (`flops=`): products, convolutions and scans do. Otherwise an
operation that holds programs counts these, once each, and any other counts one per element of its largest operand, or of
its first result if that has more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from jax.extend.core import ClosedJaxpr, Jaxpr

from ckptgrad.compat import hi_programs
from ckptgrad.graph.graph import Operation

# From the types of operands and results, and the parameters, to floating point operations (multiply and add count two).
Count: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Mapping[str, Any]], int]

_COUNTED: dict[str, Count] = {}


def state_flops(primitive: str, count: Count) -> None:
    """State how the work of a primitive is counted; the last statement holds."""
    _COUNTED[primitive] = count


def has_batch_dimensions(op: Operation) -> bool:
    """Whether an operation is a product with batch dimensions (attention scores, for one)."""
    return op.name == "dot_general" and bool(op.params["dimension_numbers"][1][0])


def flops(op: Operation) -> int:
    """Floating point operations of one operation (multiply and add count two)."""
    return _flops(op.name, [a.aval for a in op.inputs], [v.aval for v in op.outputs], op.params)


def _flops(name: str, ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    count = _COUNTED.get(name)
    return _unstated(ins, outs, params) if count is None else count(ins, outs, params)


def _unstated(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    return program_flops(params) or elements(ins, outs)


def elements(ins: Sequence[Any], outs: Sequence[Any]) -> int:
    """The elements of the largest operand, or of the first result if that has more."""
    return max((math.prod(getattr(aval, "shape", ())) for aval in (*outs[:1], *ins)), default=0)


def program_flops(params: Mapping[str, Any]) -> int:
    """The work of the programs among the parameters of an operation, each run once."""
    return sum(_jaxpr_flops(program) for program in inner_programs(params))


def _jaxpr_flops(jaxpr: Jaxpr) -> int:
    return sum(
        _flops(e.primitive.name, [a.aval for a in e.invars], [v.aval for v in e.outvars], e.params) for e in jaxpr.eqns
    )


def inner_programs(params: Mapping[str, Any]) -> list[Jaxpr]:
    """The programs among the parameters of an operation."""
    programs = [getattr(program, "jaxpr", program) for program in hi_programs(params)]
    for value in params.values():
        for entry in cast(Sequence[Any], value) if isinstance(value, (tuple, list)) else (value,):
            if isinstance(entry, ClosedJaxpr):
                programs.append(entry.jaxpr)
            elif isinstance(entry, Jaxpr):
                programs.append(entry)
    return programs
