# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Targets as users name them."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import TypeAlias, cast

import jax
from jax.sharding import Mesh

from ckptgrad.errors import OptionError
from ckptgrad.errors.base import near_miss
from ckptgrad.target.attached import attached, attached_cpu, target_of
from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.chips.gpus import described_gpu, gpu_names, gpu_of_file
from ckptgrad.target.target import Device, Target
from ckptgrad.target.topology import gpu_topology, tpu_topology

TargetChoice: TypeAlias = str | PathLike[str] | Device | Mesh | Target | None

# The smallest of each kind, for suggestions.
_TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v4:2x2x1", "v5p:2x2x1", "tpu7x:2x2x1")
_TPU = re.compile(r"(v\d+[a-z]*|tpu\d+[a-z]*):\d+(x\d+)+")
_COUNTED = re.compile(r"(.*?)(?::([1-9]\d*))?")


def target(choice: TargetChoice = None) -> Target:
    """What programs are planned and compiled for.

    Args:
        choice: one of
            "a100", "h100", "h200", "b200", with a number of them in one host ("h100:8"): XLA's GPU compiler, without the
            GPU (`pip install 'ckptgrad[gpu-target]'`);
            JAX's name of a TPU topology, "v5e:2x2", "v6e:2x2", "v4:2x2x1", "v5p:2x2x1", "tpu7x:2x2x1" or larger: XLA's
            TPU compiler, without the TPU (`pip install 'ckptgrad[tpu-target]'`);
            "cpu": the CPU of this process;
            the path of a file that describes another GPU, as XLA dumps it (`*.gpu_target_config.pbtxt`), with a number of
            them or not;
            a `jax.Device`, or the `Mesh` of several, here or known to a compiler only;
            a Target, which is returned; None: the default device of this process.

    Returns:
        A Target: `memory_bytes` of one device, `devices`, and `mesh(shape, names)` over them.

    Raises:
        MissingExtraError: the target's compiler is not installed; it says what to install.
        OptionError: nothing is known by this name.

    Example:
        >>> import ckptgrad as cg
        >>> cg.target("cpu").devices[0].platform
        'cpu'
    """
    if isinstance(choice, Target):
        return choice
    if choice is None:
        return attached()
    if isinstance(choice, Mesh):
        return target_of(tuple(choice.devices.flat))
    if isinstance(choice, jax.Device):
        return target_of((cast(Device, choice),))
    if not isinstance(choice, (str, PathLike)):
        raise OptionError(f"target={choice!r} is a {type(choice).__name__}; {_KNOWN}")
    return _named(str(choice))


_KNOWN = "it may be a name, the path of a description, a jax.Device, a Mesh, or None for what is attached"


def _named(name: str) -> Target:
    if name == "cpu":
        return attached_cpu()
    if _TPU.fullmatch(name):
        return tpu_topology(name)
    if Path(name).is_file():
        return gpu_topology(gpu_of_file(name), 1)
    matched = _COUNTED.fullmatch(name)
    kind, count = (matched[1], int(matched[2] or 1)) if matched else (name, 1)
    return gpu_topology(_gpu(kind, name), count)


def _gpu(kind: str, name: str) -> Chip:
    if kind in gpu_names():
        return described_gpu(kind)
    if Path(kind).is_file():
        return gpu_of_file(kind)
    names = ", ".join(gpu_names())
    meant = near_miss(name.lower(), ["cpu", *gpu_names(), *_TOPOLOGIES])
    raise OptionError(
        f"target={name!r} is not known{f': did you mean {meant!r}?' if meant else '.'} There are {names} (several as "
        f"'h100:8'), TPU topologies as 'v5e:2x2', 'cpu', and files that describe a GPU"
    )
