# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Residuals kept in another form: encoded in the forward, decoded in the backward.

The code becomes one more value of the joint graph, and the backward reads what is decoded from it.  Whether the code is
kept, the value itself, or what both are made from is then for the minimum cut to decide, by bytes and seconds, as for any
other values; the gradient is the same whichever it is.  To add an encoding: a file here that registers it, and an import
of it in this folder's `__init__`.  Does not: look inside loops, or at values that are spread over several devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from ckptgrad.errors import OptionError
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import explicit_sharding, struct, varying_axes
from ckptgrad.stage.joint import Joint


@dataclass(frozen=True)
class Encoding:
    """One way to keep a value.

    Attributes:
        name: by which users ask for it.
        takes: whether it is for a value of this abstract value.
        encode: from an array to its code, in `jax.lax`.
        decode: from a code and the array's abstract value to the array, in all bits.
    """

    name: str
    takes: Callable[[Any], bool]
    encode: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]


_REGISTRY: dict[str, Encoding] = {}


def register(encoding: Encoding) -> Encoding:
    """Make an encoding known by its name."""
    _REGISTRY[encoding.name] = encoding
    return encoding


def registered() -> list[str]:
    """The names of encodings."""
    return sorted(_REGISTRY)


def check_encodings(names: Any) -> tuple[str, ...]:
    """The names of encodings, one or several.

    Raises:
        OptionError: there is none of this name.
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        if name not in _REGISTRY:
            raise OptionError(f"the encoding {name!r} is unknown; there are {', '.join(registered())}")
    return given


def with_codes(joint: Joint, names: Sequence[str]) -> Joint:
    """The same joint graph, whose backward reads from codes what an encoding of these names is for."""
    if not names:
        return joint
    makers = {v: op for op in joint.forward_operations for v in op.outputs}
    # What the forward's results are made of is the forward's, whatever the backward reads of it.
    of_outputs = {*needed_operations(joint.forward_operations, joint.outputs)}
    coded: dict[Variable, Variable] = {}
    after: dict[Operation, list[Operation]] = {}
    for v in joint.frontier:
        encoding = next((_REGISTRY[name] for name in names if _REGISTRY[name].takes(v.aval)), None)
        if encoding is None or v not in makers or not _is_whole(v):
            continue
        operations, coded[v] = _there_and_back(encoding, v)
        after.setdefault(makers[v], []).extend(operations)
    if not coded:
        return joint
    backward = {*joint.backward_operations}
    operations: list[Operation] = []
    for op in joint.operations:
        if op in backward and op not in of_outputs:
            op = _reading(op, coded)
        operations.append(op)
        operations += after.get(op, [])
    return replace(joint, operations=tuple(operations))


def _is_whole(v: Variable) -> bool:
    return v.sharding is None and explicit_sharding(v.aval) is None and not varying_axes(v.aval)


def _reading(op: Operation, coded: dict[Variable, Variable]) -> Operation:
    inputs = [coded.get(a, a) if isinstance(a, Variable) else a for a in op.inputs]
    changed = any(new is not old for new, old in zip(inputs, op.inputs, strict=True))
    return op.replace(inputs, op.outputs) if changed else op


def _there_and_back(encoding: Encoding, v: Variable) -> tuple[list[Operation], Variable]:
    """The operations that encode a value and decode it, and the variable that is decoded."""
    there = from_jaxpr(jax.make_jaxpr(encoding.encode)(struct(v.aval)))
    (code,) = there.outputs

    def decode(code: Any) -> Any:
        return encoding.decode(code, v.aval)

    back = from_jaxpr(jax.make_jaxpr(decode)(struct(code.aval)))
    first, made = _spliced(there, v)
    second, decoded = _spliced(back, made)
    return [*first, *second], decoded


def _spliced(graph: Graph, given: Variable) -> tuple[list[Operation], Variable]:
    """The operations of a graph of one input and one output, on another variable; and the output."""
    (original,), (result,) = graph.inputs, graph.outputs
    assert isinstance(result, Variable)
    replaced = [op.replace([given if a is original else a for a in op.inputs], op.outputs) for op in graph.operations]
    return replaced, result
