# pyright: reportUnknownMemberType=false
"""What a program is compiled for, as a value: it is passed to whatever depends on it.

Equal targets may share what was differentiated, planned or measured; nothing made for one is used for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from ckptgrad.errors import OptionError
from ckptgrad.graph.atoms import Atom, aval_bytes
from ckptgrad.target.allocated import Memory, compiled_memory
from ckptgrad.target.platform import Platform, platform_named
from ckptgrad.target.rates import Rates


class Device(Protocol):
    """What is asked of a `jax.Device`."""

    @property
    def platform(self) -> str: ...

    @property
    def device_kind(self) -> str: ...

    def memory_stats(self) -> dict[str, int] | None: ...


@dataclass(frozen=True)
class MemorySpace:
    """A memory of a device: JAX's name of its kind, and its size in bytes where that is known."""

    kind: str
    size: int | None


@dataclass(frozen=True)
class Target:
    """What a program is compiled for.

    Attributes:
        platform: how programs for such devices are made.
        lowered_for: the platform that JAX lowers for.
        device_kind: the model of device, as JAX names it; empty where it is not known.
        rates: by which times are estimated.
        memories: those of one device, the one that programs run in first.
        devices: the devices themselves, where they are attached to this process; else none.
    """

    platform: Platform
    lowered_for: str
    device_kind: str
    rates: Rates
    memories: tuple[MemorySpace, ...] = ()
    devices: tuple[Device, ...] = ()

    def __hash__(self) -> int:
        """By few fields: a target is part of the key of every stage."""
        return hash((self.lowered_for, self.device_kind))

    @property
    def key(self) -> tuple[str, str]:
        """What tells measurements for different targets apart, on disk too."""
        return self.platform.name, self.device_kind

    def bytes_of(self, aval: Any) -> int:
        """Bytes that a value of this type takes in one device's memory."""
        return aval_bytes(aval)

    def total_bytes(self, atoms: Iterable[Atom]) -> int:
        """Bytes that these values take together."""
        return sum(self.bytes_of(a.aval) for a in atoms)

    def free_bytes(self) -> int:
        """Bytes that are free now in the memory that programs run in; all of it where no device is attached.

        Raises:
            OptionError: nothing is known about the memory.
        """
        if not self.devices:
            size = self.memories[0].size if self.memories else None
            if size is None:
                raise OptionError(f"budget='auto' needs the size of the memory of {self}, which is not known; give bytes")
            return size
        stats = self.devices[0].memory_stats()
        if stats and "bytes_limit" in stats:
            return stats["bytes_limit"] - stats["bytes_in_use"]
        import psutil

        return psutil.virtual_memory().available

    def lower(self, jitted: Any, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """A `jax.jit` function lowered for this target; `args` may be abstract."""
        if self.devices:
            return jitted.lower(*args, **kwargs)
        return jitted.trace(*args, **kwargs).lower(lowering_platforms=(self.lowered_for,))

    def check_compiles(self) -> None:
        """Refuse what nothing here could compile.

        Raises:
            OptionError: no device of this target is attached.
        """
        if not self.devices:
            raise OptionError(f"a program for {self} cannot be compiled here: no such device is attached")

    def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """The executable of a lowered program.

        Raises:
            OptionError: as from `check_compiles`.
        """
        self.check_compiles()
        return lowered.compile()

    def compile_probe(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """An executable that is asked for its bytes and never run: compiled with little care for its speed.

        Raises:
            OptionError: as from `check_compiles`.
        """
        self.check_compiles()
        options: dict[str, Any] = dict(self.platform.probe_options)
        return lowered.compile(compiler_options=options or None)

    def allocated(self, executable: Any) -> Memory:
        """What the compiler allocates for an executable."""
        return compiled_memory(executable)

    def __str__(self) -> str:
        return self.device_kind or self.lowered_for


def described(name: str, device_kind: str = "", memories: Sequence[MemorySpace] = ()) -> Target:
    """A target of which nothing is attached, from what is known about it.

    Args:
        name: JAX's name of the platform: "cpu", "cuda", "rocm", "tpu".
        device_kind: the model of device.
        memories: those of one device.
    """
    platform = platform_named(name)
    lowered_for = name if name in platform.lowered_for else platform.lowered_for[0]
    return Target(platform, lowered_for, device_kind, platform.rates, tuple(memories))
