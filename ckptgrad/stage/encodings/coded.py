# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Save options whose values are kept as codes: encoded in the forward, decoded in the backward.

What the backward makes again from a value that it decodes stands in the joint graph a second time, as it is made from
another value where the code is inexact.  Beside the options that keep values as they are, such ones are offered that no
other one beats in bytes and seconds; the planner chooses.
Does not: look inside loops, at stages with loops, or at values that are spread over several devices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import explicit_sharding, struct, varying_axes
from ckptgrad.stage.encodings.bounded import may_be_inexact
from ckptgrad.stage.encodings.encoding import Encoding, combinations
from ckptgrad.stage.partition import Partition, partition
from ckptgrad.target.roofline import Roofline

# Options with codes that are offered for a stage.
MOST_OFFERED = 6


@dataclass(frozen=True)
class CodedChoice:
    """A partition that keeps codes, and the encodings of these."""

    name: str
    part: Partition
    encodings: tuple[str, ...]


@dataclass(frozen=True)
class _Code:
    """A value's way there, to the variables of its code, and back."""

    encoding: Encoding
    there: tuple[Operation, ...]
    code: tuple[Variable, ...]
    back: tuple[Operation, ...]
    decoded: Variable


def coded_choices(
    plain: Sequence[tuple[str, Partition]], boundary: Collection[Variable], names: Sequence[str], roofline: Roofline
) -> list[CodedChoice]:
    """What may be kept of a stage as codes, from most to least.

    Args:
        plain: the choices that keep values as they are.
        boundary: the stage's inputs that are held only if the plan says so; their codes may be kept in their place.
        names: of the encodings.
        roofline: the rates by which coding is timed.
    """
    figures = [_figures(part, boundary, roofline) for _, part in plain]
    offered: list[CodedChoice] = []
    for encodings in combinations(names):
        for choice in _of(plain, boundary, encodings):
            own = _figures(choice.part, boundary, roofline)
            if not any(all(a <= b for a, b in zip(other, own, strict=True)) for other in figures):
                figures.append(own)
                offered.append(choice)
    return offered if len(offered) <= MOST_OFFERED else _spread(offered, boundary, roofline)


def _of(
    plain: Sequence[tuple[str, Partition]], boundary: Collection[Variable], encodings: Sequence[Encoding]
) -> Iterator[CodedChoice]:
    """Each choice with codes of all values that these encodings are for, then of those that are the stage's alone."""
    for name, part in plain:
        arriving = [v for v in part.reads if v in boundary]
        private = [v for v in part.residuals if v not in part.joint.outputs]
        for values in dict.fromkeys(((*arriving, *part.residuals), tuple(private))):
            codes = {v: code for v in values if (code := _code_of(v, part, encodings)) is not None}
            if codes:
                used = tuple(dict.fromkeys(code.encoding.name for code in codes.values()))
                kept = f"{name} and boundary" if any(v in codes for v in arriving) else name
                yield CodedChoice(f"{kept}, as {' and '.join(used)}", _keeping_codes(part, codes), used)


def _code_of(v: Variable, part: Partition, encodings: Sequence[Encoding]) -> _Code | None:
    if v.sharding is not None or explicit_sharding(v.aval) is not None or varying_axes(v.aval):
        return None
    for encoding in encodings:
        if encoding.takes(v.aval) and (encoding.is_exact or may_be_inexact(v, part)):
            return _there_and_back(encoding, v)
    return None


def _keeping_codes(part: Partition, codes: dict[Variable, _Code]) -> Partition:
    """The partition that keeps codes in place of some values, and makes everything from what is decoded of them."""
    joint = part.joint
    seen: dict[Atom, Variable] = {v: code.decoded for v, code in codes.items()}
    again: list[Operation] = []
    for op in part.recomputed:
        if any(a in seen for a in op.inputs):
            outputs = [Variable(v.aval) for v in op.outputs]
            again.append(op.replace([seen.get(a, a) for a in op.inputs], outputs))
            seen.update(zip(op.outputs, outputs, strict=True))
    operations = [op for v, code in codes.items() if v in joint.inputs for op in code.there]
    for op in joint.forward_operations:
        operations.append(op)
        operations += [made for v in op.outputs if v in codes for made in codes[v].there]
    operations += [op for code in codes.values() for op in code.back]
    operations += again
    operations += [op.replace([seen.get(a, a) for a in op.inputs], op.outputs) for op in joint.backward_operations]
    gradients = tuple(a if a is None else seen.get(a, a) for a in joint.gradients)
    kept = [w for v in part.residuals for w in (codes[v].code if v in codes else (v,))]
    kept += [w for v, code in codes.items() if v in joint.inputs for w in code.code]
    return partition(replace(joint, operations=tuple(operations), gradients=gradients), kept)


def _figures(part: Partition, boundary: Collection[Variable], roofline: Roofline) -> tuple[float, ...]:
    """What a choice keeps for itself, the boundaries that it has others hold, and its seconds."""
    joint, target = part.joint, roofline.target
    private = [v for v in part.residuals if v not in joint.outputs]
    read = [v for v in part.reads if v in boundary]
    returned = [v for v in part.residuals if v in joint.outputs]
    gradients = variables_of(g for g in joint.gradients if g is not None)
    seconds = roofline.seconds(part.forward_operations, [*variables_of(joint.outputs), *private])
    seconds += roofline.seconds(part.backward_run.operations, gradients)
    return (*map(target.total_bytes, (private, read, returned)), seconds)


def _spread(offered: list[CodedChoice], boundary: Collection[Variable], roofline: Roofline) -> list[CodedChoice]:
    """Some of many choices: evenly by what they keep, the smallest among them."""
    order = sorted(offered, key=lambda choice: -sum(_figures(choice.part, boundary, roofline)[:3]))
    step = (len(order) - 1) / (MOST_OFFERED - 1)
    return [order[round(k * step)] for k in range(MOST_OFFERED)]


def _there_and_back(encoding: Encoding, v: Variable) -> _Code:
    there = from_jaxpr(jax.make_jaxpr(encoding.encode)(struct(v.aval)))
    codes = variables_of(there.outputs)

    def decode(*code: Any) -> Any:
        return encoding.decode(code, v.aval)

    back = from_jaxpr(jax.make_jaxpr(decode)(*(struct(c.aval) for c in codes)))
    decoded = back.outputs[0]
    assert isinstance(decoded, Variable)
    return _Code(encoding, _spliced(there, [v]), tuple(codes), _spliced(back, codes), decoded)


def _spliced(graph: Graph, given: Sequence[Variable]) -> tuple[Operation, ...]:
    """The operations of a graph without constants, on other variables for its inputs."""
    assert not graph.constants
    names: dict[Atom, Variable] = dict(zip(graph.inputs, given, strict=True))
    return tuple(op.replace([names.get(a, a) for a in op.inputs], op.outputs) for op in graph.operations)
