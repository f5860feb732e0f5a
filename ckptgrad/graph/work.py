"""How much arithmetic an operation does.

Counts are exact for products and convolutions, one a result element elsewhere; a subgraph counts
its body (times the trip count of a scan).
"""

from __future__ import annotations

import math
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

from ckptgrad.compat import hi_programs
from ckptgrad.graph.graph import Operation


def has_batch_dimensions(op: Operation) -> bool:
    """Whether an operation is a product with batch dimensions (attention scores, for one)."""
    return op.name == "dot_general" and bool(op.params["dimension_numbers"][1][0])


def flops(op: Operation) -> int:
    """Floating point operations of one operation (multiply and add count two)."""
    return _flops(op.name, [a.aval for a in op.inputs], [v.aval for v in op.outputs], op.params)


def _flops(name: str, ins: list[Any], outs: list[Any], params: dict[str, Any]) -> int:
    size = math.prod(getattr(outs[0], "shape", ())) if outs else 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * size * math.prod(ins[0].shape[i] for i in contracted)
    if name == "ragged_dot_general":
        numbers = params["ragged_dot_dimension_numbers"]
        (contracted, _), _ = numbers.dot_dimension_numbers
        work = 2 * size * math.prod(ins[0].shape[i] for i in contracted)
        # Of groups along what is summed over, each sums its own part.
        return work // max(1, outs[0].shape[0]) if numbers.lhs_ragged_dimensions[0] in contracted else work
    if name == "conv_general_dilated":
        kernel = ins[1].shape
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * size * math.prod(kernel) // max(out_features, 1)
    inner = sum(_jaxpr_flops(j) for j in inner_programs(params))
    if inner:
        return inner * (params.get("length", 1) if name == "scan" else 1)
    return max([size, *(math.prod(getattr(a, "shape", ())) for a in ins)])


def _jaxpr_flops(jaxpr: Jaxpr) -> int:
    return sum(
        _flops(e.primitive.name, [a.aval for a in e.invars], [v.aval for v in e.outvars], e.params) for e in jaxpr.eqns
    )


def inner_programs(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs among the parameters of an operation."""
    found = [getattr(program, "jaxpr", program) for program in hi_programs(params)]
    for value in params.values():
        for v in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(v, ClosedJaxpr):
                found.append(v.jaxpr)
            elif isinstance(v, Jaxpr):
                found.append(v)
    return found
