"""On what a figure was measured: the machine, the versions, the commit.  Neither names of hosts nor paths."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import psutil

from ckptgrad.bench.peers import PEERS

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "ckptgrad")
_PACKAGE = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """Machine, versions and commit.  Starts JAX's backend, which may take an accelerator's memory."""
    return {"machine": machine(), "versions": versions(), "commit": commit()}


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory, system and device."""
    devices = jax.devices()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
    }


def versions() -> dict[str, str | None]:
    """Of Python, of what ckptgrad needs, and of each peer: None where it is not installed."""
    needed = {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
    return needed | {peer.name: peer.version for peer in PEERS}


def commit() -> str | None:
    """The commit of the checkout that this package lies in, with "+" where the package has changes; else None."""
    if not _git("ls-files", "--error-unmatch", "__init__.py"):
        return None
    head = _git("rev-parse", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "--", ".") else head


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_PACKAGE), *words], check=False, capture_output=True, text=True)
    except OSError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """The model of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
