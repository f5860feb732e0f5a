"""What programs are compiled for."""

from __future__ import annotations

import jax


def free_bytes() -> int:
    """Bytes that the default device (or, on CPU, the machine) has free now."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    import psutil

    return psutil.virtual_memory().available
