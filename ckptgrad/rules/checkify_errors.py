"""The errors that `jax.experimental.checkify` threads through calls of functions with custom rules.

Checkify makes a call of a custom function take the errors so far before its arguments and return the errors, with those
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
        taken: the number of leaves of errors before its arguments.
        returned: the number of leaves of errors before its results.
        passed: for each error returned, its position among the errors taken if it is passed on, else None.
    """

    taken: int
    returned: int
    passed: tuple[int | None, ...]

    def values(self, op: Application) -> list[Any]:
        """The errors returned, computed by the function itself: a rule makes no checks."""
        return apply(op.op, op.inputs)[: self.returned] if self.returned else []

    def pushed(self, tangents: Sequence[Any]) -> list[Any]:
        """Tangents of the errors returned: those of the values that an error carries, where it is passed on."""
        return [None if i is None else tangents[i] for i in self.passed]

    def pulled(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of the errors taken, from those of the errors returned."""
        cotangents_taken: list[Any] = [None] * self.taken
        for i, ct in zip(self.passed, cotangents, strict=False):
            if i is not None and ct is not None:
                cotangents_taken[i] = ct
        return cotangents_taken


def errors_around(op: Application, taken: int, results: int) -> Errors:
    """The errors around a call that takes `taken` of them, of a function with `results` results."""
    returned = len(op.op.outputs) - results
    if not returned and not taken:
        return Errors(0, 0, ())
    program = op.params["call_jaxpr"]
    program = getattr(program, "jaxpr", program)
    consts = op.params["num_consts"]
    places = {v: i for i, v in enumerate(program.invars[consts : consts + taken])}
    passed = (v if not isinstance(v, Literal) else None for v in program.outvars[:returned])
    return Errors(taken, returned, tuple(places.get(v) for v in passed))
