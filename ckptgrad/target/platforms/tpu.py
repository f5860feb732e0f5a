"""TPUs.

Layouts cost time here: the compiler chooses them across a whole program, and does so best for products as they are written,
in the order that it finds itself, with no barrier where none is needed.
"""

from __future__ import annotations

from ckptgrad.target.hlo.cycles import cycle_seconds
from ckptgrad.target.links import Links
from ckptgrad.target.platform import Form, Platform
from ckptgrad.target.rates import Rates

PLATFORM = Platform(
    name="tpu",
    lowered_for=("tpu",),
    device_platforms=("tpu",),
    # The order of magnitude of one in a data centre.
    rates=Rates(1e14, 4e12, 1e12, 8e11, 8e11, 1e-6, 1e8),
    links=Links(1e11),
    # Of data x tensor parallelism it runs all forwards that are repeated before the backward.
    calls_if_spread=True,
    # One all-reduce of all gradients at the end: 12 transformer blocks over 16 of a v5e by FSDP, 132 MiB and 22.0 ms, take
    # 129 MiB and 21.0 ms where the next backward waits for it.
    sums_last=True,
    # 512 bytes at a multiple of 16 KiB, and what is left between them counted twice.
    table_bytes=2 * 16384 - 512,
    open_if_stored=True,
    whole_blocks=True,
    near_memory=True,
    rounds_kept=True,
    forms=frozenset({Form.GATHERED_FIRST}),
    overlaps=True,
    # By a third to a half, where they read it transposed.
    slices_first=True,
    fuses_random=True,
    # The last two axes are laid out in tiles.
    reshapes_in_place=False,
    tile=(8, 128),
    slow_probes=True,
    # 2.7 to 7.8 % for transformers.
    excess=0.03,
    # PCI Express 3 with 16 lanes, as far as it is reached.
    host_rate=1.2e10,
    # The runtime and the compiler keep about as much for themselves.
    reserve=0.02,
    compilers=("libtpu",),
    compiled_seconds=cycle_seconds,
)
