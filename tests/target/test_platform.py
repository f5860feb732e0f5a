"""Platforms by the names that JAX and this package have for them."""

from __future__ import annotations

import pytest

from ckptgrad.target.platform import Isolation, platform_named, platforms


@pytest.mark.parametrize(
    ("name", "platform"),
    [("cpu", "cpu"), ("gpu", "gpu"), ("cuda", "gpu"), ("rocm", "gpu"), ("tpu", "tpu")],
)
def test_every_name_leads_to_its_platform(name, platform):
    found = platform_named(name)
    assert found.name == platform
    assert found is platforms()[name]
    assert name in {found.name, *found.lowered_for, *found.device_platforms}


def test_a_platform_without_a_file_is_an_accelerator():
    other = platform_named("neuron")
    assert (other.isolation, other.forms, other.host_memory) == (Isolation.BARRIERS, frozenset(), False)
    assert other.lowered_for == other.device_platforms == ("neuron",)
    assert other.rates == platform_named("cpu").rates


def test_only_platforms_whose_compiler_writes_what_it_expects_are_read():
    assert {name for name, p in platforms().items() if p.compiled_seconds is not None} == {"gpu", "cuda", "rocm", "tpu"}
