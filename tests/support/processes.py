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
import os, sys, jax
# What the transport says goes to the same descriptor, in the middle of lines.
sys.stdout = open({written!r}, "w")
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_num_cpu_devices", {devices})
jax.distributed.initialize("localhost:{port}", {count}, {number}, initialization_timeout=100)
from jax.experimental import multihost_utils
from {module} import *
{calls}
print("all checked", flush=True)
# The first process serves the others, which would end with it.
multihost_utils.sync_global_devices("all checked")
os._exit(0)
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
    port, started, written = free_port(), list[subprocess.Popen[str]](), list[Path]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            written.append(Path(folder) / f"{number}.txt")
            places = {"port": port, "count": count, "number": number, "written": str(written[-1])}
            code = _CODE.format(devices=devices, module=module, calls=calls, **places)
            env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONHASHSEED": str(number + 1)}
            env["CKPTGRAD_CACHE"] = f"{folder}/{number}"
            env.pop("XLA_FLAGS", None)
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT, **pipes))
        try:
            errors = [process.communicate(timeout=timeout)[1] for process in started]
        finally:
            for process in started:
                process.kill()
        printed = [path.read_text() if path.exists() else "" for path in written]
    for text, error in zip(printed, errors, strict=True):
        assert "all checked" in text, error[-3000:]
    return printed
