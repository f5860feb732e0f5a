"""GPUs."""

from __future__ import annotations

from ckptgrad.compat import GPU_KERNEL_OPTIONS
from ckptgrad.target.hlo.kernels import kernel_seconds
from ckptgrad.target.links import Links
from ckptgrad.target.platform import Form, Isolation, Platform
from ckptgrad.target.rates import Rates

PLATFORM = Platform(
    name="gpu",
    lowered_for=("cuda", "rocm"),
    device_platforms=("gpu", "cuda", "rocm"),
    # The order of magnitude of one in a data centre.
    rates=Rates(2e14, 2e13, 4e12, 2e12, 2e12, 4e-6, 4e7),
    links=Links(3e11),
    # Where first forwards stand open, half precision holds up to 15 boundaries more than its stages do alone.
    isolation=Isolation.WHOLE,
    whole_blocks=True,
    forms=frozenset({Form.AS_MATRICES, Form.BATCHED_AS_MATRICES, Form.BY_OFFSETS}),
    open_stores_half=True,
    adds_products=True,
    starts_kernels=True,
    kernel_cache_option="xla_gpu_kernel_cache_file",
    kernel_cache_needs=GPU_KERNEL_OPTIONS,
    # PCI Express 4 with 16 lanes, as far as it is reached.
    host_rate=2.5e10,
    # XLA_CLIENT_MEM_FRACTION is 0.75 unless the user says otherwise.
    reserve=0.25,
    compilers=("jax-cuda12-pjrt", "jax-cuda13-pjrt", "jax-rocm60-pjrt", "jax-rocm7-pjrt"),
    # Nothing can be tried: what is not tried is chosen in the same way everywhere.
    options_without_device=(("xla_gpu_autotune_level", 0),),
    compiled_seconds=kernel_seconds,
)
