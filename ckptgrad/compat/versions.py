"""Which versions are installed, and where their results differ."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

import jax
import jaxlib

# What was measured with other versions is measured again.
VERSIONS = (jax.__version__, jaxlib.__version__)


@cache
def installed(distributions: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some distributions that are installed, with their versions: plugins of JAX have versions of their own."""
    found: list[str] = []
    for name in distributions:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return tuple(found)


# Outside its domain the derivative of acosh is nan since 0.12, where it is written as a product of two roots.
ACOSH_BY_FACTORS = jax.__version_info__ >= (0, 12)

# Until 0.12 a chain of convolutions with channels first, left open to the CPU's compiler, takes what jax.grad of it takes;
# since then about a tenth more, with three times as many copies.
OPEN_CONVOLUTIONS_ARE_SMALL = jax.__version_info__ < (0, 12)

# XLA's options for kernels of GPUs. Those in files of their own can be shared between programs; from JAX 0.12 on XLA's
# compiler has no such option.
GPU_KERNEL_OPTIONS: tuple[tuple[str, bool], ...] = (
    (("xla_gpu_enable_llvm_module_compilation_parallelism", True),) if jax.__version_info__ < (0, 12) else ()
)
