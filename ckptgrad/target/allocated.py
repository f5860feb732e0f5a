"""The bytes that a compiled program allocates, as its compiler reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """Bytes of a compiled program: in the device's memory, and temporaries in the host's, where the device has its own."""

    temporary_bytes: int
    output_bytes: int
    argument_bytes: int
    alias_bytes: int
    host_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """Bytes beyond the arguments: temporaries plus outputs that are not donated arguments."""
        return self.temporary_bytes + self.output_bytes - self.alias_bytes


def compiled_memory(executable: Any) -> Memory:
    """The memory of `jax.jit(f).lower(...).compile()`."""
    stats = executable.memory_analysis()
    return Memory(
        stats.temp_size_in_bytes,
        stats.output_size_in_bytes,
        stats.argument_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.host_temp_size_in_bytes,
    )
