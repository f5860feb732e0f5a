# pyright: reportUnknownMemberType=false
"""What a program is compiled for, as a value: it is passed to whatever depends on it.

Equal targets may share what was differentiated, planned or measured; nothing made for one is used for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol, cast

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from ckptgrad.bytes import format_bytes
from ckptgrad.compat import installed
from ckptgrad.errors import NotAttachedError, OptionError
from ckptgrad.graph.atoms import Atom, device_bytes
from ckptgrad.target.allocated import Memory, compiled_memory
from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.hlo.transfers import transfer_seconds
from ckptgrad.target.host_memory import free_host_memory
from ckptgrad.target.kernel_cache import kernel_cache
from ckptgrad.target.links import Links
from ckptgrad.target.placed import placed
from ckptgrad.target.platform import Form, Platform, platform_named
from ckptgrad.target.rates import Rates


class Device(Protocol):
    """What is asked of a `jax.Device`."""

    @property
    def platform(self) -> str: ...

    @property
    def device_kind(self) -> str: ...

    def memory_stats(self) -> dict[str, int] | None: ...


# JAX's name of the host's memory that a device reaches.
PINNED = "pinned_host"


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
        memories: those of one device, the one that programs run in first; `pinned_host` only where programs may use it.
        devices: the devices themselves; none where nothing can be compiled.
        attached: whether they are there, so that programs can be run; otherwise the compiler alone knows them.
        links: between devices; None: what these send each other takes no time.

    Example:
        >>> import ckptgrad as cg
        >>> isinstance(cg.target("cpu"), cg.Target), cg.target("cpu").mesh((1,), ("data",)).axis_names
        (True, ('data',))
    """

    platform: Platform
    lowered_for: str
    device_kind: str
    rates: Rates
    memories: tuple[MemorySpace, ...] = ()
    devices: tuple[Device, ...] = ()
    attached: bool = False
    links: Links | None = None

    def __hash__(self) -> int:
        """By few fields: a target is part of the key of every stage."""
        return hash((self.lowered_for, self.device_kind))

    @property
    def key(self) -> tuple[str, str]:
        """What tells measurements for different targets apart, on disk too."""
        return self.platform.name, self.device_kind

    @property
    def forms(self) -> frozenset[Form]:
        """Those of the platform. Over several devices axes of batched products are not merged: one may be cut, as heads and
        positions are by tensor parallelism, and the partitioner moves the other to cut both as one."""
        forms = self.platform.forms
        return forms if len(self.devices) < 2 else forms - {Form.BATCHED_AS_MATRICES}

    @property
    def compiler_options(self) -> tuple[tuple[str, bool | int | str], ...]:
        """Options that every program for this target is compiled with."""
        return () if self.attached else self.platform.options_without_device

    @property
    def compiler_versions(self) -> tuple[str, ...]:
        """The distributions of its compiler that are installed, with their versions."""
        return installed(self.platform.compilers)

    @property
    def priced_by(self) -> str:
        """What seconds are computed from, in words: the rates, and of several devices the links between them."""
        return f"{self.rates} and {self.links}" if len(self.devices) > 1 else str(self.rates)

    def bytes_of(self, atom: Atom) -> int:
        """Bytes that a value takes in one device's memory."""
        return device_bytes(atom)

    def total_bytes(self, atoms: Iterable[Atom]) -> int:
        """Bytes that these values take together."""
        return sum(map(device_bytes, atoms))

    def moved_bytes(self, atoms: Iterable[Atom]) -> int:
        """Bytes of these values that are moved where they are written or read: their own elements."""
        return sum(device_bytes(atom, padded=False) for atom in atoms)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of the memory of one device that programs run in; None where they are not known."""
        return self.memories[0].size if self.memories else None

    @property
    def host_bytes(self) -> int:
        """Bytes of the host's memory that compiled programs may use."""
        return next((memory.size or 0 for memory in self.memories if memory.kind == PINNED), 0)

    def with_host(self, size: int) -> Target:
        """This target, where compiled programs may keep so many bytes in the host's memory."""
        others = tuple(memory for memory in self.memories if memory.kind != PINNED)
        return replace(self, memories=(*others, MemorySpace(PINNED, size)))

    def mesh(self, shape: Sequence[int], names: Sequence[str]) -> Mesh:
        """A mesh over the first of the target's devices, for shardings of arguments.

        Args:
            shape: the number of devices along each axis.
            names: of the axes.

        Raises:
            OptionError: the target has fewer devices.
        """
        count = prod(shape)
        if count > len(self.devices):
            raise OptionError(f"a mesh of shape {tuple(shape)} needs {count} devices; {self} has {len(self.devices)}")
        return Mesh(np.array(self.devices[:count], dtype=object).reshape(shape), tuple(names))

    def free_bytes(self, arguments: int = 0) -> int:
        """Bytes that a program may take in the memory that it runs in.

        Of attached devices what is free now, of the host's memory within the limits of a container and of the process, with
        some left (`target.host_memory`); of others their memory, less what JAX leaves to others there by default
        (`Platform.reserve`) and less the arguments.

        Args:
            arguments: bytes of the program's arguments.

        Raises:
            OptionError: nothing is known about the memory.
        """
        stats = self.devices[0].memory_stats() if self.attached else None
        if stats and "bytes_limit" in stats:
            return stats["bytes_limit"] - max(stats["bytes_in_use"], arguments)
        if self.attached and self.platform.host_memory:
            return free_host_memory().bytes
        if self.memory_bytes is None:
            raise OptionError(f"budget='auto' needs the size of the memory of {self}, which is not known; give bytes")
        return int(self.memory_bytes * (1 - self.platform.reserve)) - arguments

    def free_words(self) -> str:
        """What `free_bytes` takes, in words: "90% of what the machine has free"."""
        stats = self.devices[0].memory_stats() if self.attached else None
        if stats and "bytes_limit" in stats:
            return f"what is free of the {format_bytes(stats['bytes_limit'])} that JAX may take of the device"
        if self.attached and self.platform.host_memory:
            return free_host_memory().words
        return f"{1 - self.platform.reserve:.0%} of the memory of {self.device_kind or self}, less the arguments"

    def lower(self, jitted: Any, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """A `jax.jit` function lowered for this target; `args` may be abstract."""
        if not self.devices:
            return jitted.trace(*args, **kwargs).lower(lowering_platforms=(self.lowered_for,))
        if self.attached:
            with jax.default_device(cast(Any, self.devices[0])):
                return jitted.lower(*args, **kwargs)
        placed_args, placed_kwargs = placed((args, kwargs), self.devices)
        if not jax.tree.leaves((placed_args, placed_kwargs)):
            # Nothing else says where such a program is to run.
            jitted = jax.jit(jitted, out_shardings=SingleDeviceSharding(self.devices[0]))
        return jitted.lower(*placed_args, **placed_kwargs)

    def check_compiles(self) -> None:
        """Refuse what nothing here could compile.

        Raises:
            OptionError: nothing is known of this target but its platform.
        """
        if not self.devices:
            raise OptionError(f"a program for {self} cannot be compiled here: no such device is attached")

    @property
    def asked_while_tracing(self) -> bool:
        """Whether its compiler is here, and answers in a moment."""
        return bool(self.devices) and self.platform.quick_probes

    def check_runs(self) -> None:
        """Refuse to run what only a compiler knows.

        Raises:
            NotAttachedError: the devices are not here.
        """
        if not self.attached:
            raise NotAttachedError(str(self))

    def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """The executable of a lowered program.

        Raises:
            OptionError: as from `check_compiles`.
        """
        self.check_compiles()
        return _compile(lowered, (*self.compiler_options, *(() if self.attached else self._shared_kernels)))

    def compile_probe(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """An executable that is asked for its bytes and never run: compiled with little care for its speed.

        Raises:
            OptionError: as from `check_compiles`.
        """
        self.check_compiles()
        return _compile(lowered, (*self.compiler_options, *self.platform.probe_options, *self._shared_kernels))

    @property
    def _shared_kernels(self) -> tuple[tuple[str, bool | int | str], ...]:
        """Options by which programs that do not run here have the kernels that they have in common compiled once."""
        option = self.platform.kernel_cache_option
        return ((option, kernel_cache(self.key)), *self.platform.kernel_cache_needs) if option else ()

    def allocated(self, executable: Any) -> Memory:
        """What the compiler allocates for an executable."""
        return compiled_memory(executable)

    def compiled_seconds(self, executable: Any, *, without: str = "") -> float | None:
        """The seconds of an executable as they are read from its instructions; None where the platform does not say how.

        What goes to the host's memory and back is counted as if nothing was computed meanwhile.

        Args:
            executable: what was compiled.
            without: the name of a scope whose operations are left out.
        """
        read, host_rate = self.platform.compiled_seconds, self.platform.host_rate
        if read is None:
            return None
        module = read_module(executable.as_text())
        transfers = 0.0 if host_rate is None else transfer_seconds(module, host_rate, without)
        return read(module, self.rates, self.links, without) + transfers

    def __str__(self) -> str:
        name = self.device_kind or self.lowered_for
        return f"{len(self.devices)} x {name}" if len(self.devices) > 1 else name


def _compile(lowered: jax.stages.Lowered, options: Iterable[tuple[str, bool | int | str]]) -> jax.stages.Compiled:
    given: dict[str, Any] = dict(options)
    return lowered.compile(compiler_options=given or None)


def described(name: str, device_kind: str = "", memories: Sequence[MemorySpace] = ()) -> Target:
    """A target of which nothing is attached, from what is known about it.

    Args:
        name: JAX's name of the platform: "cpu", "cuda", "rocm", "tpu".
        device_kind: the model of device.
        memories: those of one device.
    """
    platform = platform_named(name)
    lowered_for = name if name in platform.lowered_for else platform.lowered_for[0]
    links = platform.links or Links(platform.rates.read_rate)
    return Target(platform, lowered_for, device_kind, platform.rates, tuple(memories), links=links)
