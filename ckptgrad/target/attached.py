# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Targets made of devices: the one place that asks JAX which are attached to this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax

from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.chips.known import known_chip
from ckptgrad.target.links import Links
from ckptgrad.target.platform import platform_named
from ckptgrad.target.processes import Processes, processes_of
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

    The default device is that of `jax.default_device` (or of the option of this name), a device or the name of a
    platform; else the first device of JAX's default backend.
    """
    return target_of((_default_device(),))


def _default_device() -> Device:
    named = jax.config.jax_default_device  # type: ignore[attr-defined]
    if named is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=named)[0] if isinstance(named, str) else named


def attached_cpu() -> Target:
    """The first CPU device of this process, which is there whatever else is."""
    return target_of((jax.local_devices(backend="cpu")[0],))


def all_devices() -> tuple[Any, ...]:
    """Those of JAX's default backend, of all processes."""
    return tuple(jax.devices())


def all_processes() -> Processes:
    """Those that `jax.distributed` has joined, this one included."""
    return processes_of(all_devices())


def with_neighbours(target: Target) -> Target:
    """An attached target with all devices of its kind that this process has, for a mesh over them."""
    kind = target.device_kind
    return target_of(tuple(d for d in jax.local_devices(backend=target.devices[0].platform) if d.device_kind == kind))


def target_of(devices: tuple[Device, ...], chip: Chip | None = None) -> Target:
    """Devices of one kind as a target, whether they are attached to this process or known to a compiler only.

    Args:
        devices: at least one.
        chip: what is known of them; None: what is published of chips of their kind.
    """
    return _target(devices, chip, _MEASURED.get(_key(devices[0])))


def _key(device: Device) -> tuple[str, str]:
    return platform_named(device.platform).name, device.device_kind


@lru_cache(maxsize=64)
def _target(devices: tuple[Device, ...], chip: Chip | None, measured: Rates | None) -> Target:
    first = devices[0]
    platform = platform_named(first.platform)
    lowered_for = platform.lowered_for[0] if first.platform not in platform.lowered_for else first.platform
    chip = chip or known_chip(first.device_kind, _devices_of_a_chip(devices))
    rates = measured or (chip.rates if chip else platform.rates)
    attached = _is_attached(first)
    size = _memory_size(first) if attached else None
    memory = MemorySpace("device", size or (chip.memory if chip else None))
    links = (chip and chip.links) or platform.links or Links(rates.read_rate)
    return Target(platform, lowered_for, first.device_kind, rates, (memory,), devices, attached, links)


def _is_attached(device: Device) -> bool:
    try:
        return device in jax.devices(device.platform)
    except RuntimeError:  # no device of the platform is attached
        return False


def _devices_of_a_chip(devices: Sequence[Device]) -> int:
    """The cores of some TPUs are devices of their own, which have the same coordinates."""
    coordinates = [getattr(d, "coords", None) for d in devices]
    return coordinates.count(coordinates[0]) if coordinates[0] is not None else 1


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
