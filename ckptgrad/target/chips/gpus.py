"""GPUs by their descriptions, texts of XLA's GpuTargetConfigProto: `--xla_dump_to` writes one on the chip itself."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from os import PathLike
from pathlib import Path

from ckptgrad.errors import OptionError
from ckptgrad.target import chips
from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates

# How many times faster than multiply-adds of float32 products run on tensor cores, by the major version of the compute
# capability: of float32 rounded to TF32, of elements of 16 bits, of float64. NVIDIA's papers on the architectures of V100,
# A100, H100 and B200.
_TENSOR_CORES = {7: (1.0, 8.0, 0.5), 8: (8.0, 16.0, 1.0), 9: (7.4, 14.8, 1.0), 10: (14.6, 29.2, 0.5)}
# GPUs in a host of NVIDIA's DGX systems, and bytes per second in a direction by the major version: NVLink between them, the
# network adapter of each to other hosts (data sheets of DGX-1V, A100, H100 and B200).
HOST = 8
_LINKS = {7: (150e9, 12.5e9), 8: (300e9, 25e9), 9: (450e9, 50e9), 10: (900e9, 50e9)}


def gpu_names() -> list[str]:
    """The names of the GPUs that are described here."""
    return sorted(p.name.removesuffix(".txt") for p in resources.files(chips).iterdir() if p.name.endswith(".txt"))


@cache
def described_gpu(name: str) -> Chip:
    """The GPU of this name.

    Raises:
        FileNotFoundError: none is described under this name.
    """
    return _read(resources.files(chips).joinpath(f"{name}.txt").read_text("utf-8"), name)


def gpu_of_file(path: str | PathLike[str]) -> Chip:
    """The GPU that a file describes.

    Raises:
        OptionError: the file cannot be read, or does not describe a GPU.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"target: cannot read the description {str(path)!r}: {error}") from error
    return _read(text, str(path))


def _read(text: str, where: str) -> Chip:
    def number(field: str) -> float:
        match = re.search(rf"\b{field}:\s*([0-9.eE+]+)", text)
        if match is None:
            raise OptionError(f"target: {where!r} does not describe a GPU: it lacks the field {field}")
        return float(match[1])

    name = re.search(r'device_description_str:\s*"([^"]*)"', text)
    # A multiply-add counts as two operations.
    plain = 2e9 * number("core_count") * number("fpus_per_core") * number("clock_rate_ghz")
    bandwidth = number("memory_bandwidth")
    products, half, double = (plain * f for f in _TENSOR_CORES.get(int(number("major")), (1.0, 2.0, 0.5)))
    rates = Rates(products, plain, plain / 8, bandwidth, bandwidth, 4e-6, number("l2_cache_size"), half, plain, double)
    near, far = _LINKS.get(int(number("major")), (32e9, 12.5e9))
    kind = name[1] if name else where
    return Chip(kind, int(number("device_memory_size")), rates, text, Links(near, HOST, far))
