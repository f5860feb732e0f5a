"""Checks that need several devices, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def on_four_devices(module: str, calls: str) -> None:
    """As `on_devices`, with four."""
    on_devices(4, module, calls)


def on_devices(count: int, module: str, calls: str) -> None:
    """Run calls of a test module's functions in a fresh process with several CPU devices.

    Raises:
        AssertionError: with the end of what the process wrote, if a call raised.
    """
    code = f"from {module} import *; {calls}; print('all checked')"
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
    process = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "all checked" in process.stdout, process.stderr[-3000:]
