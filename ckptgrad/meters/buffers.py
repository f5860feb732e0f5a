"""What a buffer is, for people: its kind, bytes, shape, stage and the user's line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ckptgrad.graph.source import SourceLine
from ckptgrad.planning.ledger import Storage

# In the order in which they are stacked: what is there longest comes first.
KINDS: tuple[str, ...] = (*Storage._fields, "transients")


@dataclass(frozen=True, slots=True)
class Buffer:
    """Something that is held at a moment.

    Attributes:
        kind: one of KINDS: "results" are outputs and gradients of arguments, "gradients" cotangents under way.
        bytes: its size.
        what: in words, or the primitive that made it.
        shape, dtype: of an array; None for several things together.
        stage: the stage that made it.
        source: the user's line that made it.
        name: what it is the gradient of, as users write it: "params['w']"; empty for other buffers.
    """

    kind: str
    bytes: int
    what: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    stage: int | None = None
    source: SourceLine | None = None
    name: str = ""

    @property
    def type(self) -> str:
        """Shape and dtype as JAX writes them: "float32[8,16]"; empty for several things together."""
        return "" if self.shape is None else f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def made(self) -> str:
        """What it is or what made it, with the name of what it is the gradient of."""
        return f"gradient of {self.name}" if self.name else self.what

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "source": None if self.source is None else str(self.source)}
