"""Custom rules inside `jax.experimental.checkify`.

Checkify makes a call of a custom function take the errors so far before its arguments and give the errors, with those
of new checks, before its results.  The user's rule knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend.core import Literal

from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.evaluate import apply


@dataclass(frozen=True)
class Errors:
    """The errors around one call.

    Attributes:
        taken: how many leaves of errors stand before its arguments.
        given: how many stand before its results.
        passed: of the errors given, the positions among the errors taken of those that are passed on; None for others.
    """

    taken: int
    given: int
    passed: tuple[int | None, ...]

    def values(self, op: Application) -> list[Any]:
        """The errors given, by the function itself: a rule makes no checks."""
        return apply(op.op, op.inputs)[: self.given] if self.given else []

    def pushed(self, tangents: Sequence[Any]) -> list[Any]:
        """Tangents of the errors given: of what an error tells, where that is passed on."""
        return [None if i is None else tangents[i] for i in self.passed]

    def pulled(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of the errors taken, from those of the errors given."""
        found: list[Any] = [None] * self.taken
        for i, ct in zip(self.passed, cotangents, strict=False):
            if i is not None and ct is not None:
                found[i] = ct
        return found


def errors_around(op: Application, taken: int, results: int) -> Errors:
    """The errors around a call that takes so many, of a function that has so many results."""
    given = len(op.op.outputs) - results
    if not given and not taken:
        return Errors(0, 0, ())
    program = op.params["call_jaxpr"]
    program = getattr(program, "jaxpr", program)
    consts = op.params["num_consts"]
    places = {v: i for i, v in enumerate(program.invars[consts : consts + taken])}
    passed = (v if not isinstance(v, Literal) else None for v in program.outvars[:given])
    return Errors(taken, given, tuple(places.get(v) for v in passed))
