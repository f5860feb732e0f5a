"""Text as bytes, random windows of it, and where they lie: each process has its part of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ckptgrad.errors import OptionError
from ckptgrad.target.attached import all_devices, all_processes
from ckptgrad.target.processes import Processes


def read_text(path: str | Path | None = None) -> bytes:
    """The bytes of a file, or by default the help topics of Python's documentation, which come with CPython.

    Raises:
        OptionError: the file cannot be read.
    """
    if path is None:
        from pydoc_data.topics import topics

        return "\n\n".join(topics.values()).encode()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"cannot read the text {str(path)!r}: {error.strerror}; give a readable file") from None


def windows(text: bytes, batch: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """An endless stream of random windows of a text, each batch of shape (batch, length), int32.

    Raises:
        OptionError: the text is shorter than one window.
    """
    if len(text) < length:
        raise OptionError(
            f"the text has {len(text)} bytes, but a window takes {length} (the context plus one); "
            f"give a longer text or a smaller context"
        )
    data = np.frombuffer(text, np.uint8)
    offsets = np.arange(length)
    draw = np.random.default_rng(seed)
    while True:
        starts = draw.integers(0, len(text) - length + 1, batch)
        yield data[starts[:, None] + offsets].astype(np.int32)


@dataclass(frozen=True)
class Data:
    """Batches of windows, over the devices of all processes.

    Attributes:
        processes: those that share the work.
        mesh: their devices; None for one process, which works on its default device.
        text, batch, length, seed: as for `windows`.
    """

    processes: Processes
    mesh: Mesh | None
    text: bytes
    batch: int
    length: int
    seed: int

    @classmethod
    def of(cls, text: bytes, batch: int, length: int, seed: int) -> Data:
        """For the processes that there are.

        Raises:
            OptionError: the batch cannot be divided among the devices.
        """
        processes, mesh = all_processes(), None
        if processes.several:
            mesh = Mesh(np.array(all_devices(), dtype=object), ("data",))
            if batch % mesh.size:
                raise OptionError(f"a batch of {batch} cannot be divided among {mesh.size} devices; choose a multiple")
        return cls(processes, mesh, text, batch, length, seed)

    def batches(self) -> Iterator[jax.Array]:
        """The stream of batches, the same for any number of devices; raises as `windows`."""
        return (self._laid_out(x, "data") for x in windows(self.text, self.batch, self.length, self.seed))

    def everywhere(self, x: Any) -> jax.Array:
        """An array that all processes have, on each device."""
        return self._laid_out(np.asarray(x)) if self.mesh is not None else jnp.asarray(x)

    def here(self, x: jax.Array) -> jax.Array:
        """An array that is whole on each device, as one of this process alone."""
        return x.addressable_data(0)

    def _laid_out(self, x: np.ndarray, *axes: str) -> jax.Array:
        if self.mesh is None:
            return jnp.asarray(x)
        return jax.make_array_from_callback(x.shape, NamedSharding(self.mesh, PartitionSpec(*axes)), lambda k: x[k])
