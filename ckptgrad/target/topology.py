# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Devices that are not here: XLA's compilers for GPUs and TPUs know them from a description or a name."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from ckptgrad.compat import register_cuda_compiler
from ckptgrad.errors import MissingExtraError, OptionError
from ckptgrad.target.attached import target_of
from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.target import Target


@cache
def gpu_topology(gpu: Chip, count: int) -> Target:
    """Several GPUs of one host, for the compiler alone.

    Raises:
        MissingExtraError: XLA's compiler for NVIDIA's GPUs is not installed.
        OptionError: the compiler does not understand the description.
    """
    try:
        devices = _gpu_devices(gpu.description, count)
    except NotImplementedError as error:
        raise MissingExtraError(f"compiling for {gpu.kind}", "XLA's GPU compiler", "gpu-target") from error
    except jax.errors.JaxRuntimeError as error:
        raise OptionError(f"target: XLA does not understand the description of {gpu.kind}: {error}") from error
    return target_of(tuple(devices), gpu)


def _gpu_devices(description: str, count: int) -> list[Any]:
    options = {"target_config": description, "topology": f"1x1x{count}"}
    try:
        return topologies.get_topology_desc(platform="cuda", **options).devices
    except NotImplementedError:
        if not register_cuda_compiler():
            raise
        return topologies.get_topology_desc(platform="cuda", **options).devices


@cache
def tpu_topology(name: str) -> Target:
    """A slice of TPUs, for the compiler alone.

    Args:
        name: JAX's name of the topology: "v5e:2x2".

    Raises:
        MissingExtraError: XLA's compiler for TPUs is not installed.
        OptionError: there is no such topology.
    """
    # Otherwise the compiler's library spends minutes asking a cloud's metadata server for the chips of this machine.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    if not any(Path("/dev").glob("accel*")) and not Path("/dev/vfio").exists():
        # Its lock, which admits one process per machine, guards chips, and there are none.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        devices = topologies.get_topology_desc(name, "tpu").devices
    except jax.errors.JaxRuntimeError as error:
        raise OptionError(f"target: there is no TPU topology {name!r}: {error}") from error
    except RuntimeError as error:
        raise MissingExtraError(f"compiling for TPU {name}", "XLA's TPU compiler", "tpu-target") from error
    return target_of(tuple(devices))
