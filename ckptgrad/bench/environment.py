"""What a figure was measured on: machine, versions, commit. No host names and no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from ckptgrad.bench.peers import PEERS
from ckptgrad.target.attached import all_devices

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "ckptgrad")
PACKAGE = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """Machine, versions and commit. Starts JAX's backend, which may reserve an accelerator's memory."""
    return {"machine": machine(), "versions": versions(), "commit": commit()}


def machine() -> dict[str, Any]:
    """Processor, usable cores, memory, system and device."""
    devices = all_devices()
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
    """Versions of Python, of ckptgrad and what it needs, and of each peer (None if it is not installed)."""
    needed = {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
    return needed | {peer.name: peer.version for peer in PEERS}


def commit() -> str | None:
    """The commit of the checkout that holds this package, with "+" if the package has changes; None outside a checkout."""
    if not _git("ls-files", "--error-unmatch", "__init__.py"):
        return None
    head = _git("rev-parse", "HEAD")
    return head + "+" if head and _git("status", "--porcelain", "--", ".") else head


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE), *words], check=False, capture_output=True, text=True)
    except OSError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """The processor's model if the system reports it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
