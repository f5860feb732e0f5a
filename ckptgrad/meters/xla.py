"""XLA's buffer assignment: what a compiled program will allocate, exactly and before it runs.

Sees: every buffer of the program.
Cannot see: the allocator's own overhead, other programs, and scratch inside library calls. On the CPU such are
the fusions that XLA hands to YNNPACK: a chain of products in one fusion keeps its intermediates out of the
assignment (the resident meter sees them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptgrad.meters.meter import Reading


@dataclass(frozen=True)
class Memory:
    """Bytes of a compiled program."""

    temporary_bytes: int
    output_bytes: int
    argument_bytes: int
    alias_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Bytes beyond the arguments: temporaries plus outputs that are no donated arguments."""
        return self.temporary_bytes + self.output_bytes - self.alias_bytes


def compiled_memory(executable: Any) -> Memory:
    """The memory of `jax.jit(f).lower(...).compile()`."""
    stats = executable.memory_analysis()
    return Memory(
        stats.temp_size_in_bytes,
        stats.output_size_in_bytes,
        stats.argument_size_in_bytes,
        stats.alias_size_in_bytes,
    )


def measure(executable: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    """Certified peak bytes of a compiled program (the same for all arguments of one type)."""
    return Reading(compiled_memory(executable).peak_bytes)
