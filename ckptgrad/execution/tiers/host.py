# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The host's memory as a tier: pinned, where the device has its own memory and JAX reaches the host's from it.

On CPU, where both are one memory, a copy to another buffer stands for it: it takes the time of a copy and saves nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ckptgrad.errors import TierError
from ckptgrad.execution.tiers.tier import kind
from ckptgrad.target.host_memory import free_host_memory
from ckptgrad.target.target import PINNED


def _free(place: str) -> int:
    return free_host_memory().bytes


@kind("host", _free)
class HostStore:
    """Values in the host's memory."""

    def __init__(self, place: str, capacity: int, device: Any) -> None:
        self._capacity = capacity
        own = device.platform != "cpu" and any(memory.kind == PINNED for memory in device.addressable_memories())
        self._pinned = jax.sharding.SingleDeviceSharding(device, memory_kind=PINNED) if own else None
        self._device = device
        self._values: dict[int, Any] = {}

    def put(self, key: int, value: Any) -> None:
        """As `Store.put`."""
        # Another thread drops values meanwhile.
        held = sum([x.nbytes for x in [*self._values.values()]])
        if held + value.nbytes > self._capacity:
            raise TierError(
                f"the tier host holds {held} of {self._capacity} bytes, and {value.nbytes} more do not fit; give it more"
            )
        if self._pinned is None:
            copy: Any = np.array(value, copy=True)
        else:
            copy = jax.device_put(value, self._pinned).block_until_ready()
        self._values[key] = copy

    def get(self, key: int, like: Any) -> Any:
        """As `Store.get`."""
        value = self._values[key]
        if self._pinned is None:
            # Given to the device as it is, it would be one buffer with the tier's.
            value = np.array(value, copy=True)
        return jax.device_put(value, self._device).block_until_ready()

    def drop(self, key: int) -> None:
        """As `Store.drop`."""
        self._values.pop(key, None)

    def close(self) -> None:
        """As `Store.close`."""
        self._values.clear()
