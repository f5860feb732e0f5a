"""What made a value, in the words of those who wrote the function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ckptgrad.chunks import markers
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.source import SourceLine, user_line
from ckptgrad.loops import planned

_WORDS = {
    planned.FORWARD: "the loop's steps",
    planned.BACKWARD: "the loop's backward",
    **dict.fromkeys((markers.FORWARD, markers.BACKWARD, markers.ONE_PASS), "the loop over chunks"),
}


def made_by(op: Operation | None) -> str:
    """The name of the primitive, or of the function for one that calls it: "relu" for jax.nn.relu's `custom_jvp_call`.

    "argument" for what nothing made.
    """
    if op is None:
        return "argument"
    return _called(op) or _WORDS.get(op.name, op.name)


def _called(op: Operation) -> str:
    """The name of the only function that a function with a custom derivative calls; empty for others."""
    inner: Any = op.params.get("call_jaxpr")
    equations = [*_equations(inner)]
    return str(equations[0].params.get("name", "")) if len(equations) == 1 else ""


def lines_of(op: Operation) -> Iterator[SourceLine | None]:
    """The user's lines of an operation, and of what it runs: the steps of a loop, the function that is called."""
    yield op.source
    for value in op.params.values():
        for equation in _equations(value):
            yield from _lines(equation)


def _lines(equation: Any) -> Iterator[SourceLine | None]:
    yield user_line(equation.source_info)
    for value in equation.params.values():
        for inner in _equations(value):
            yield from _lines(inner)


def _equations(program: Any) -> list[Any]:
    """The equations of a jaxpr, closed or not; none for everything else."""
    return [*getattr(getattr(program, "jaxpr", program), "eqns", ())]
