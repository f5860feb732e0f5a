"""The chips of which figures are published, by JAX's names of their models."""

from __future__ import annotations

from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.chips.gpus import described_gpu, gpu_names
from ckptgrad.target.chips.tpus import TPUS


def known_chip(kind: str, devices: int = 1) -> Chip | None:
    """The chip of this model; None where nothing is known of it.

    Args:
        kind: the model, as `jax.Device.device_kind` names it.
        devices: the number of JAX devices that one chip has.
    """
    if kind in TPUS:
        return TPUS[kind].device(kind, devices)
    return next((gpu for gpu in map(described_gpu, gpu_names()) if gpu.kind == kind), None)
