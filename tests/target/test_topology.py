"""Devices that are not here: what JAX is asked for, and why a compiler has none."""

from __future__ import annotations

import jax
import pytest

from ckptgrad.errors import MissingExtraError, OptionError
from ckptgrad.target import topology
from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.chips.gpus import described_gpu

DEVICE = jax.devices()[0]


@pytest.fixture
def asked(monkeypatch):
    """What JAX is asked for; each answer is made by a test."""
    calls, answers = [], []

    class Found:
        devices = (DEVICE,)

    def get(*args, **options):
        calls.append((args, options))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Found

    def forget():
        topology.gpu_topology.cache_clear()
        topology.tpu_topology.cache_clear()

    monkeypatch.setattr(topology.topologies, "get_topology_desc", get)
    forget()
    yield calls, answers, Found
    forget()


def test_gpus_are_asked_for_by_their_description(asked):
    calls, answers, found = asked
    answers.append(found)
    gpu = described_gpu("h100")
    target = topology.gpu_topology(gpu, 8)
    assert calls == [((), {"platform": "cuda", "target_config": gpu.description, "topology": "1x1x8"})]
    assert target.devices == (DEVICE,)
    assert target.rates == gpu.rates
    assert topology.gpu_topology(gpu, 8) is target


def test_a_compiler_that_is_installed_but_not_known_is_registered_once(asked, monkeypatch):
    calls, answers, found = asked
    answers += [NotImplementedError("cuda"), found]
    monkeypatch.setattr(topology, "register_cuda_compiler", lambda: True)
    assert topology.gpu_topology(described_gpu("a100"), 1).devices == (DEVICE,)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (NotImplementedError("cuda"), MissingExtraError, r"ckptgrad\[gpu-target\]"),
        (jax.errors.JaxRuntimeError("bad"), OptionError, "XLA does not understand the description of Abacus: bad"),
    ],
)
def test_why_there_are_no_gpus(asked, monkeypatch, failure, error, words):
    asked[1].append(failure)
    monkeypatch.setattr(topology, "register_cuda_compiler", lambda: False)
    with pytest.raises(error, match=words):
        topology.gpu_topology(Chip("Abacus", 1, described_gpu("h100").rates, "text"), 1)


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (jax.errors.JaxRuntimeError("bad"), OptionError, "there is no TPU topology 'v5e:3x3': bad"),
        (RuntimeError("no library"), MissingExtraError, r"ckptgrad\[tpu-target\]"),
    ],
)
def test_why_there_are_no_tpus(asked, failure, error, words):
    asked[1].append(failure)
    with pytest.raises(error, match=words):
        topology.tpu_topology("v5e:3x3")
    assert asked[0] == [(("v5e:3x3", "tpu"), {})]
