"""Saying once for each function that a plan takes a `jax.checkpoint` inside it apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ckptgrad.compat import is_checkpoint
from ckptgrad.doors.said_once import SaidOnce
from ckptgrad.errors import CheckpointWarning
from ckptgrad.graph.naming import title
from ckptgrad.graph.source import SourceLine, user_line

_SAID = SaidOnce()
_LINES: dict[Any, Any] = {}


def warn_of_checkpoints(fun: Callable[..., Any], program: Any) -> None:
    """Warn if a traced program of a function calls what `jax.checkpoint` wraps, unless that was said of it before.

    Python's filters decide what is shown; by default a line of code is named once, whichever function it is traced in.

    Args:
        fun: the user's function.
        program: its jaxpr.
    """
    found = next(checkpoints(program), None)
    if found is None or not _SAID.first_of(fun):
        return
    eqn, line = found
    warning = CheckpointWarning(title(fun), line, eqn.params.get("policy") is not None)
    file, number = ("ckptgrad", 1) if line is None else (line.file, line.line)
    warnings.warn_explicit(warning, CheckpointWarning, file, number, registry=_LINES)


def checkpoints(program: Any) -> Iterator[tuple[Any, SourceLine | None]]:
    """The calls of what `jax.checkpoint` wraps in a jaxpr, those inside loops and branches among them, with their lines.

    One that is all of what another call runs has the line of that call.
    """
    seen: set[int] = set()
    # With the calls around each, the innermost first, in pairs: most are never asked for their line.
    waiting: list[tuple[Any, Any]] = [(program, None)]
    while waiting:
        one, outer = waiting.pop()
        one = getattr(one, "jaxpr", one)
        if id(one) in seen:
            continue
        seen.add(id(one))
        for eqn in one.eqns:
            inner = [*_programs(eqn.params.values())]
            if is_checkpoint(eqn.primitive, eqn.params):
                yield eqn, _line_of((eqn, outer))
            else:
                waiting += [(program, (eqn, outer)) for program in inner]


def _line_of(calls: Any) -> SourceLine | None:
    """The line of the innermost call that has one."""
    while calls is not None:
        call, calls = calls
        if (line := user_line(call.source_info)) is not None:
            return line
    return None


def _programs(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _programs(value)
        elif hasattr(getattr(value, "jaxpr", value), "eqns"):
            yield value
