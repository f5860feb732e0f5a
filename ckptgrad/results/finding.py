"""What `validate(..., locate=True)` finds: where a gradient goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckptgrad.graph.source import SourceLine

# The rule of ckptgrad (or one registered with it) differs from JAX's.
RULE = "rule differs from JAX's"
# JAX and ckptgrad use the same rule of the user's, and it is wrong.
CUSTOM = "custom rule is not the derivative of its function"
# The gradient differs though no operation does.
UNLOCATED = "not located"
# The function of a custom rule has no derivative to compare with, nor finite differences.
UNCHECKED = "custom rule not checked"


@dataclass(frozen=True)
class Finding:
    """One place where a gradient goes wrong, or where that could not be said.

    Attributes:
        kind: RULE, CUSTOM, UNLOCATED or UNCHECKED.
        stage: the stage's position in the chain, from 0; None where no stage can be named.
        primitive: the operation's, or None.
        function: the user's function that a custom rule belongs to, or None.
        source: the user's line that made the operation, or None.
        inside: the loops and branches around the operation, outermost first.
        input: which input's cotangent is wrong, from 0 in the operation's order (of a function with a custom rule:
            among its flattened arguments), or None.
        shape, dtype: of that input.
        relative: largest difference relative to the largest entry; infinite where the cotangent should be zero.
        allowed: what it may be.
        detail: in words, where there are no numbers.
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
        where = [] if self.stage is None else [f"stage {self.stage}"]
        if self.primitive is not None:
            where.append(self._operation)
        what = self._difference if self.relative is not None else self.detail
        reason = f": {self.kind}" if self.is_wrong else ""
        return f"{', '.join(where)}: {what}{reason}" if where else what

    @property
    def _operation(self) -> str:
        name = self.primitive or ""
        if self.function is not None:
            name = f"{name.removesuffix('_call')} `{self.function}`"
        if self.source is not None:
            name += f" at {self.source.brief}"
        return name + "".join(f", in a {outer}" for outer in reversed(self.inside))

    @property
    def _difference(self) -> str:
        assert self.relative is not None
        shape = ",".join(map(str, self.shape))
        apart = f"differs by {self.relative:.2g} (allowed {self.allowed:.0e})"
        if math.isinf(self.relative):
            apart = "differs where the derivative is zero, or is not finite itself"
        return f"cotangent of input {self.input}, {self.dtype}[{shape}], {apart}"

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
    """The findings in words; what repeats from stage to stage is said once."""
    alike: dict[tuple, list[Finding]] = {}
    for f in findings:
        alike.setdefault((f.kind, f.primitive, f.function, f.source, f.inside, f.input), []).append(f)
    result = []
    for group in alike.values():
        others = len({f.stage for f in group}) - 1
        result.append(group[0].message + (f"; the same in {others} more stages" if others > 0 else ""))
    return result
