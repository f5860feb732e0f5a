"""The gradients of a script that was run as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ckptgrad.results.shown import Shown


@dataclass(frozen=True)
class GradientCall:
    """Equal calls of one gradient.

    Attributes:
        function: the differentiated function, and its line.
        place: the line that asked for the gradient.
        peak_bytes: predicted, beyond the arguments; None for a gradient that was left to its library.
        stages, repeated: of the plan: stages, and forwards that are repeated.
        left: why it was left to its library; "" for a planned one.
        times: how often it was called or, inside a jit, traced.
        certified_bytes: what XLA allocates beyond the arguments: for the program that it is in, with all that this does; in
            a dry run of a gradient outside programs, for the gradient. None where nothing was compiled as one.
        program: the name of that program; "" outside programs.
        least: the share of what it needs that the smallest plan takes, where it got that one because none is within the
            share that was asked for; else "".
        together: the number of devices whose bytes together `peak_bytes` are: more than one inside a jit with an automatic
            mesh, where nothing says how the gradient's arguments lie.
    """

    function: str
    place: str
    peak_bytes: int | None = None
    stages: int = 0
    repeated: int = 0
    left: str = ""
    times: int = 1
    certified_bytes: int | None = None
    program: str = ""
    least: str = ""
    together: int = 1


@dataclass(frozen=True, repr=False)
class ScriptRun(Shown):
    """What was planned while a script ran.

    Attributes:
        script: its path, or the name of the module.
        budget: of each gradient, as it was asked for.
        calls: one for each function, line and plan, in the order in which they came.
        dry: whether it was a dry run: compiled, and run with JAX's own gradients.
        target: what was compiled for, as text; None for what is attached.
    """

    script: str
    budget: Any
    calls: tuple[GradientCall, ...]
    dry: bool = False
    target: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The calls as plain data."""
        calls = [asdict(call) for call in self.calls]
        return {"script": self.script, "budget": self.budget, "dry": self.dry, "target": self.target, "calls": calls}
