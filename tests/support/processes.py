"""Checks that need several processes, joined by `jax.distributed` on this machine's CPU."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CODE = """
import os, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_num_cpu_devices", {devices})
jax.distributed.initialize("localhost:{port}", {count}, {number}, initialization_timeout=100)
from {module} import *
{calls}
print("all checked")
os._exit(0)  # without waiting for the others, which may have failed
"""


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def on_processes(count: int, module: str, calls: str, *, devices: int = 1, timeout: float = 150) -> list[str]:
    """Run calls of a test module's functions in fresh processes that share a mesh.

    Hash seeds differ, and so do the folders of what is measured.

    Returns:
        What each printed.

    Raises:
        AssertionError: with the end of what a process wrote, if a call raised.
        subprocess.TimeoutExpired: they wait for each other.
    """
    port, started = free_port(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            code = _CODE.format(devices=devices, port=port, count=count, number=number, module=module, calls=calls)
            env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONHASHSEED": str(number + 1)}
            env["CKPTGRAD_CACHE"] = f"{folder}/{number}"
            env.pop("XLA_FLAGS", None)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT, **pipes))
        try:
            written = [process.communicate(timeout=timeout) for process in started]
        finally:
            for process in started:
                process.kill()
    for out, err in written:
        assert "all checked" in out, err[-3000:]
    return [out for out, _ in written]
