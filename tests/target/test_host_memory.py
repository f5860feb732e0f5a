"""What a program may take: the least of what the machine has free, what groups leave and what the process may take."""

from __future__ import annotations

import resource
from collections import namedtuple

import psutil
import pytest

from ckptgrad.target.host_memory import HEADROOM, Free, free_host_memory

GIB, MIB = 2**30, 2**20
Memory = namedtuple("Memory", "available")
Info = namedtuple("Info", "vms rss")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """16 GiB are free, and the process has no limits."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16 * GIB))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def kernel(tmp_path):
    """A root with files of these contents."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))
        return tmp_path

    return lambda files: write(**files)


def left(n: int) -> int:
    return int(n * (1 - HEADROOM))


def test_without_groups_it_is_what_the_machine_has(tmp_path):
    assert free_host_memory(tmp_path) == Free(left(16 * GIB), "90% of what the machine has free")


def test_the_limit_of_a_container_less_what_is_used_and_cannot_be_given_back(kernel):
    root = kernel(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": 4 * GIB,
            "sys/fs/cgroup/memory.current": 3 * GIB,
            "sys/fs/cgroup/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\n",
        }
    )
    words = "90% of what the limit of the container, 4.0 GiB (memory.max), leaves"
    assert free_host_memory(root) == Free(left(3 * GIB), words)


def test_the_tightest_of_the_groups_around_a_process_counts(kernel):
    root = kernel(
        {
            "proc/self/cgroup": "0::/user/job/step\n",
            "sys/fs/cgroup/user/memory.max": 8 * GIB,
            "sys/fs/cgroup/user/memory.current": 7 * GIB,
            "sys/fs/cgroup/user/job/memory.max": 4 * GIB,
            "sys/fs/cgroup/user/job/memory.current": GIB,
            "sys/fs/cgroup/user/job/step/memory.max": "max",
            "sys/fs/cgroup/user/job/step/memory.current": GIB,
        }
    )
    assert free_host_memory(root).bytes == left(GIB)


@pytest.mark.parametrize("folder", ["docker/abc/", ""], ids=["as on the host", "mounted as the root"])
def test_version_1(kernel, folder):
    root = kernel(
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n1:cpu,cpuacct:/\n",
            f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": 2 * GIB,
            f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": GIB,
            f"sys/fs/cgroup/memory/{folder}memory.stat": f"total_inactive_file {512 * MIB}\n",
        }
    )
    words = "90% of what the limit of the container, 2.0 GiB (memory.limit_in_bytes), leaves"
    assert free_host_memory(root) == Free(left(GIB + 512 * MIB), words)


@pytest.mark.parametrize("limit", [2**63 - 4096, "max", "not a number"])
def test_no_limit_is_none(kernel, limit):
    root = kernel(
        {
            "proc/self/cgroup": "0::/\nnot a line\n",
            "sys/fs/cgroup/memory.max": limit,
            "sys/fs/cgroup/memory.current": GIB,
        }
    )
    assert free_host_memory(root).bytes == left(16 * GIB)


def test_a_container_that_is_full_leaves_nothing(kernel):
    root = kernel(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": GIB,
            "sys/fs/cgroup/memory.current": GIB + 4096,
        }
    )
    assert free_host_memory(root).bytes == 0


def test_limits_of_the_process(tmp_path, monkeypatch):
    def limits(kind):
        return (6 * GIB, -1) if kind == resource.RLIMIT_AS else (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(resource, "getrlimit", limits)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: Info(5 * GIB, GIB))
    words = "90% of what the limit of the process, 6.0 GiB (RLIMIT_AS), leaves"
    assert free_host_memory(tmp_path) == Free(left(GIB), words)
