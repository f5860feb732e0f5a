"""What `validate(..., locate=True)` finds: where a gradient goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckptgrad.graph.source import SourceLine

# The derivative rule of ckptgrad, or one registered with it, differs from JAX's.
RULE = "rule differs from JAX's"
# JAX and ckptgrad both use the user's rule, and it is wrong.
CUSTOM = "custom rule is not the derivative of its function"
# The gradient differs although no single operation does.
UNLOCATED = "not located"
# The function of a custom rule has neither a derivative nor finite differences to compare with.
UNCHECKED = "custom rule not checked"


@dataclass(frozen=True)
class Finding:
    """One place where a gradient goes wrong, or where that could not be decided.

    Attributes:
        kind: RULE, CUSTOM, UNLOCATED or UNCHECKED.
        stage: the position of the stage in the chain, from 0; None where no stage can be named.
        primitive: the name of the operation's primitive, or None.
        function: the user's function to which a custom rule belongs, or None.
        source: the user's line that made the operation, or None.
        inside: the loops and branches around the operation, outermost first.
        input: the position of the input whose cotangent is wrong, from 0 in the operation's order (for a function with
            a custom rule: among its flattened arguments), or None.
        shape, dtype: of that input.
        relative: the largest difference relative to the largest entry; infinite where the cotangent should be zero.
        allowed: the largest `relative` that is tolerated.
        detail: an explanation, where there are no numbers.
    """

    kind: str
    stage: int | None = None
    primitive: str | None = None
    function: str | None = None
    source: SourceLine | None = None
    inside: tuple[str, ...] = ()
    input: int | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    relative: float | None = None
    allowed: float | None = None
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether this operation's cotangent is known to be wrong."""
        return self.kind in (RULE, CUSTOM)

    @property
    def message(self) -> str:
        """The finding in words."""
        place = [] if self.stage is None else [f"stage {self.stage}"]
        if self.primitive is not None:
            place.append(self._operation)
        verdict = self.detail if self.relative is None else self._difference(self.relative)
        reason = f": {self.kind}" if self.is_wrong else ""
        return f"{', '.join(place)}: {verdict}{reason}" if place else verdict

    @property
    def _operation(self) -> str:
        name = self.primitive or ""
        if self.function is not None:
            name = f"{name.removesuffix('_call')} `{self.function}`"
        if self.source is not None:
            name += f" at {self.source.brief}"
        return name + "".join(f", in a {outer}" for outer in reversed(self.inside))

    def _difference(self, relative: float) -> str:
        shape = ",".join(map(str, self.shape))
        difference = f"differs by {relative:.2g} (allowed {self.allowed:.0e})"
        if math.isinf(relative):
            difference = "differs where the derivative is zero, or is not finite itself"
        return f"cotangent of input {self.input}, {self.dtype}[{shape}], {difference}"

    @property
    def place_in_stage(self) -> tuple[object, ...]:
        """What findings about the same place have in common in every stage and at every step of a loop."""
        return (self.kind, self.primitive, self.function, self.source, self.inside, self.input)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "kind": self.kind,
            "stage": self.stage,
            "primitive": self.primitive,
            "function": self.function,
            "source": None if self.source is None else str(self.source),
            "inside": list(self.inside),
            "input": self.input,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "relative_difference": None if self.relative in (None, math.inf) else self.relative,
            "allowed": self.allowed,
            "message": self.message,
        }


def messages(findings: Sequence[Finding]) -> list[str]:
    """The findings in words; what is the same in several stages is said once."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.place_in_stage, []).append(finding)
    texts: list[str] = []
    for group in groups.values():
        others = len({finding.stage for finding in group}) - 1
        texts.append(group[0].message + (f"; the same in {others} more stages" if others > 0 else ""))
    return texts
