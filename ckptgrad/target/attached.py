# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""What is attached to this process: the one place that asks JAX for its devices."""

from __future__ import annotations

import os
from functools import lru_cache

import jax

from ckptgrad.target.platform import platform_named
from ckptgrad.target.rates import Rates
from ckptgrad.target.target import Device, MemorySpace, Target

# What `calibrate` measured or remembered, by platform and model of device.
_MEASURED: dict[tuple[str, str], Rates] = {}


def use_rates(target: Target, rates: Rates) -> None:
    """Estimate with these rates for attached devices like those of `target` from now on."""
    _MEASURED[target.key] = rates


def forget_measured_rates() -> None:
    """Estimate with the rates of typical devices again."""
    _MEASURED.clear()


def attached() -> Target:
    """The default device of this process and thread, as a target, with the rates that `calibrate` measured for it.

    The default device is that of `jax.default_device` (or of the option of this name), be it a device or the name of a
    platform; else the first device of JAX's default backend.
    """
    device = _default_device()
    return _target(device, _MEASURED.get((platform_named(device.platform).name, device.device_kind)))


def _default_device() -> Device:
    named = jax.config.jax_default_device  # type: ignore[attr-defined]
    if named is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=named)[0] if isinstance(named, str) else named


@lru_cache(maxsize=64)
def _target(device: Device, measured: Rates | None) -> Target:
    platform = platform_named(device.platform)
    lowered_for = platform.lowered_for[0] if device.platform not in platform.lowered_for else device.platform
    memory = MemorySpace("device", _memory_size(device))
    return Target(platform, lowered_for, device.device_kind, measured or platform.rates, (memory,), (device,))


def _memory_size(device: Device) -> int | None:
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    if not platform_named(device.platform).host_memory:
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return None
