"""What every meter is: a function from a compiled program and its arguments to a Reading.

Laws: a meter counts bytes beyond the arguments at the worst moment of one call; it does not change the
program; what it cannot measure it says in words and never raises for.
To add one: a file with a `measure` of this type, and a field of `validation.result.Row` to show it in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Reading:
    """What a meter read: bytes, or the reason why there are none."""

    bytes: int | None
    reason: str | None = None


# (the result of `jax.jit(f).lower(...).compile()`, args, kwargs) -> Reading
Meter: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], Reading]
