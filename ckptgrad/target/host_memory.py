"""How many bytes of the host's memory a program may take: what is free, within the limits of a container and of the process.

Read from the kernel: `/proc/self/cgroup` names the control groups of this process, whose folders hold the limit, what is
used, and of that what is cache and given back when it is needed: `memory.max`, `memory.current` and `inactive_file` of
version 2; `memory.limit_in_bytes`, `memory.usage_in_bytes` and `total_inactive_file` of version 1. Limits hold for all
groups above, too.
Does not: know what other programs in the same container are about to take; `HEADROOM` is left for these and for the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ckptgrad.bytes import format_bytes

# The share of what is free that is left to others.
HEADROOM = 0.1
# Limits beyond this are none.
_NO_LIMIT = 2**60


class Free(NamedTuple):
    """Bytes that are free, and what sets them, in words."""

    bytes: int
    words: str


class _Version(NamedTuple):
    """Where a version of control groups keeps its figures, below `/sys/fs/cgroup`."""

    folder: str
    limit: str
    used: str
    cache: str


_VERSIONS = {
    "": _Version("", "memory.max", "memory.current", "inactive_file"),
    "memory": _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_host_memory(root: Path = Path("/")) -> Free:
    """What a program may take, with `HEADROOM` left; and whose it is: the machine's, a container's, the process's.

    Args:
        root: where `proc` and `sys` lie.
    """
    import psutil

    found = [Free(psutil.virtual_memory().available, "the machine has free"), *_of_groups(root), *_of_process()]
    least = min(found)
    return Free(int(max(0, least.bytes) * (1 - HEADROOM)), f"{1 - HEADROOM:.0%} of what {least.words}")


def _of_groups(root: Path) -> Iterator[Free]:
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            version = next((v for name, v in _VERSIONS.items() if name in controllers.split(",")), None)
            if version is not None:
                yield from _of_group(root / "sys/fs/cgroup" / version.folder, path, version)


def _of_group(mount: Path, path: str, version: _Version) -> Iterator[Free]:
    """What a group and those above it leave; in a container the path may be the host's, whose folders are not there."""
    folder = mount / path.strip("/")
    for group in dict.fromkeys([folder, *folder.parents, mount]):
        if group != mount and mount not in group.parents:
            continue
        with suppress(OSError, ValueError):
            limit = int((group / version.limit).read_text())
            if limit < _NO_LIMIT:
                used = int((group / version.used).read_text()) - _cache(group, version)
                yield Free(limit - used, f"the limit of the container, {format_bytes(limit)} ({version.limit}), leaves")


def _cache(group: Path, version: _Version) -> int:
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        return next((int(line[1]) for line in lines if line[0] == version.cache), 0)
    return 0


def _of_process() -> Iterator[Free]:
    with suppress(ImportError):  # no POSIX system
        import resource

        import psutil

        taken = psutil.Process().memory_info()
        kinds = ((resource.RLIMIT_AS, taken.vms, "RLIMIT_AS"), (resource.RLIMIT_DATA, taken.rss, "RLIMIT_DATA"))
        for kind, used, name in kinds:
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY and limit < _NO_LIMIT:
                yield Free(limit - used, f"the limit of the process, {format_bytes(limit)} ({name}), leaves")
