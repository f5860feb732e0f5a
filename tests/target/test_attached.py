"""What is attached is asked for in one place, and follows the default device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

import ckptgrad
from ckptgrad.target.attached import attached, forget_measured_rates, use_rates

PACKAGE = Path(ckptgrad.__file__).parent
ASKING = re.compile(r"default_backend|local_devices|jax_default_device|jax_platforms|jax\.(local_)?device(s|_count)\(")


def test_one_file_asks_jax_for_its_devices():
    """Benchmarks are apart: they tell what they ran on."""
    files = [f for f in PACKAGE.rglob("*.py") if "bench" not in f.parts and ASKING.search(f.read_text())]
    assert [f.relative_to(PACKAGE).as_posix() for f in files] == ["target/attached.py"]


def test_the_first_device_is_attached():
    target, device = attached(), jax.devices()[0]
    assert target.devices == (device,)
    assert target.device_kind == device.device_kind
    assert target.platform.name == device.platform
    assert target is attached()


@pytest.mark.parametrize("named", ["cpu", "device"])
def test_the_default_device_is_a_device_or_the_name_of_a_platform(named):
    with jax.default_device(jax.devices()[0] if named == "device" else named):
        assert attached().devices == (jax.devices("cpu")[0],)


def test_each_thread_has_its_default_device():
    """With four devices, in a process of its own."""
    code = (
        "import jax; from concurrent.futures import ThreadPoolExecutor; from ckptgrad.target.attached import attached\n"
        "def of(device):\n"
        "    with jax.default_device(device): return attached().devices\n"
        "devices = jax.devices()\n"
        "with ThreadPoolExecutor(4) as pool: found = [*pool.map(of, devices)]\n"
        "assert found == [(d,) for d in devices] and len(devices) == 4 and attached().devices == (devices[0],)\n"
    )
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, check=True)


def test_measured_rates_are_part_of_the_target():
    before = attached()
    use_rates(before, replace(before.rates, product_rate=1.0))
    assert attached() == replace(before, rates=replace(before.rates, product_rate=1.0))
    forget_measured_rates()
    assert attached() == before


def test_the_memory_of_a_cpu_is_that_of_the_machine():
    (memory,) = attached().memories
    assert memory.size is not None
    assert 0 < attached().free_bytes() <= memory.size
