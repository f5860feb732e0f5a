"""The device's own counters."""

from __future__ import annotations

import jax

from ckptgrad.meters.meter import Reading, Subject, meter


@meter(
    "device",
    label="device counters",
    sees="what the device's allocator handed out, its padding included",
    cannot_see="a peak below an earlier one of this process; CPUs have no counters",
)
def device(subject: Subject) -> Reading:
    """Run the program once, and read the peak counter of the first device of its target."""
    first = subject.target.devices[0]
    before = first.memory_stats()
    if not before or "peak_bytes_in_use" not in before:
        return Reading(None, f"a {first.platform} device has no memory counters")
    jax.block_until_ready(subject.executable(*subject.args, **subject.kwargs))
    after = first.memory_stats() or before
    if after["peak_bytes_in_use"] == before["peak_bytes_in_use"]:
        return Reading(None, "an earlier peak of this process was higher; measure in a fresh one")
    return Reading(after["peak_bytes_in_use"] - before["bytes_in_use"])
